# shellcheck shell=bash
# A private PostgreSQL: its own data folder, a free port on loopback, passwords that nobody else knows.

postgres_version_min=15

# find_postgres [VERSION]: sets `postgres_bin` to the server programs of that major version, or of the newest one.
find_postgres() {
    local wanted=${1:-} folder version best=0
    postgres_bin=""
    for folder in /usr/lib/postgresql/*/bin "$(dirname "$(command -v initdb || echo /nowhere/initdb)")"; do
        [[ -x $folder/initdb && -x $folder/postgres ]] || continue
        version=$("$folder/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
        [[ -z $wanted || $version == "$wanted" ]] || continue
        ((version >= postgres_version_min && version > best)) || continue
        best=$version
        postgres_bin=$folder
    done
    [[ -n $postgres_bin ]]
}

# require_postgres: the server programs, from Debian when there are none.
require_postgres() {
    find_postgres || require_packages postgresql
    find_postgres || fail "no PostgreSQL of version $postgres_version_min or newer found"
}

# make_cluster FOLDER PASSWORD: an empty cluster with the superuser “postgres”, put in place whole or not at all.
make_cluster() {
    local folder=$1 password=$2 made="$1.making" secret="$1.password"
    rm -rf "$made"
    (umask 077 && printf '%s\n' "$password" >"$secret")
    [[ -z $server_user ]] || chown "$server_user:" "$secret"
    as_server_user "$postgres_bin/initdb" --pgdata="$made" --username=postgres --pwfile="$secret" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >"$folder.initdb.log" 2>&1 \
        || { show_log "$folder.initdb.log"; fail "initdb failed"; }
    rm -f "$secret" "$folder.initdb.log"
    mv "$made" "$folder"
}

# start_postgres FOLDER PORT PASSWORD LOG [SETTING…]: starts the server of FOLDER/postgres and waits until it
# answers. SETTING is name=value of postgresql.conf.
start_postgres() {
    local folder="$1/postgres" port=$2 password=$3 log=$4 setting options=()
    shift 4
    if [[ -s $folder/PG_VERSION ]]; then
        find_postgres "$(<"$folder/PG_VERSION")" \
            || fail "the data of $folder needs PostgreSQL $(<"$folder/PG_VERSION"), which is not installed"
    else
        make_cluster "$folder" "$password"
    fi
    # A socket's path may have 107 bytes; in a deeper folder TCP has to do.
    local socket="$folder"
    ((${#socket} < 85)) || socket=""
    for setting in port="$port" listen_addresses=127.0.0.1 unix_socket_directories="$socket" \
        logging_collector=off "$@"; do
        options+=(-c "$setting")
    done
    # SIGINT is PostgreSQL's fast shutdown.
    death_signal=INT start_process postgres "$log" "${server_privileges[@]}" -- \
        "$postgres_bin/postgres" -D "$folder" "${options[@]}"
    await_ready postgres 60 postgres_query "$port" "$password" "SELECT 1"
}

# postgres_query PORT PASSWORD [SQL]: as the superuser, in the maintenance database; SQL or standard input.
postgres_query() {
    local port=$1 password=$2
    shift 2
    PGPASSWORD=$password PGCONNECT_TIMEOUT=5 "$postgres_bin/psql" --no-psqlrc --quiet --tuples-only --no-align \
        --set=ON_ERROR_STOP=1 --host=127.0.0.1 --port="$port" --username=postgres --dbname=postgres \
        ${1+--command="$1"}
}

# make_database PORT SUPERUSER_PASSWORD NAME PASSWORD: role and database NAME. The role is what an operator would
# give Commune: owner of its database, may make the roles of the migrations, no superuser.
make_database() {
    local port=$1 superuser_password=$2 name=$3 password=$4
    postgres_query "$port" "$superuser_password" <<SQL
SELECT 'CREATE ROLE $name LOGIN CREATEROLE' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$name') \gexec
ALTER ROLE $name PASSWORD '$password';
SELECT 'CREATE DATABASE $name OWNER $name' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '$name') \gexec
SQL
}
