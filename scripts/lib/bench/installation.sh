# shellcheck shell=bash
# The servers of a run, and an installation of Commune for each benchmark: a database of its own, and its programs.

# start_servers: PostgreSQL as durable as it comes, Redis, and the folder that everything of this run is in.
start_servers() {
    local started
    choose_server_user
    # One folder, so that PostgreSQL's files and Postfix' queue are on one disk.
    bench_folder=$(mktemp -d /var/tmp/commune-bench-XXXXXXXX)
    chmod 755 "$bench_folder"
    own_folder "$bench_folder/servers"
    : >"$bench_folder/rows.tsv"
    : >"$bench_folder/raw.tsv"
    describe_machine
    server_password=$(random_hex 16)

    started=$(now_ms)
    postgres_port=$(free_port)
    # Memory as an operator of such a machine would give it. fsync, synchronous_commit and full_page_writes are on.
    start_postgres "$bench_folder/servers" "$postgres_port" "$server_password" "$bench_folder/postgres.log" \
        max_connections=200 shared_buffers=512MB max_wal_size=4GB
    fact "PostgreSQL settings" "shared_buffers=512MB max_wal_size=4GB, the rest as it comes: fsync=$(setting_of fsync) synchronous_commit=$(setting_of synchronous_commit) full_page_writes=$(setting_of full_page_writes)"
    done_step "$started" "PostgreSQL on 127.0.0.1:$postgres_port"

    started=$(now_ms)
    redis_port=$(free_port)
    start_redis "$bench_folder/servers" "$redis_port" "$server_password" "$bench_folder/redis.log"
    done_step "$started" "Redis on 127.0.0.1:$redis_port"
}

setting_of() {
    postgres_query "$postgres_port" "$server_password" "SHOW $1"
}

# sql [SQL]: as the superuser in the installation's database; SQL or standard input.
sql() {
    PGPASSWORD=$server_password PGDATABASE=$database "$postgres_bin/psql" --no-psqlrc --quiet --tuples-only \
        --no-align --field-separator=$'\t' --set=ON_ERROR_STOP=1 --host=127.0.0.1 --port="$postgres_port" \
        --username=postgres --dbname="$database" ${1+--command="$1"}
}

redis_command() {
    REDISCLI_AUTH=$server_password redis-cli --no-auth-warning -h 127.0.0.1 -p "$redis_port" "$@"
}

# open_installation: a migrated database named after the benchmark, its settings in the environment.
open_installation() {
    database="bench_$benchmark"
    make_database "$postgres_port" "$server_password" "$database" "$server_password"
    redis_command FLUSHALL >/dev/null
    export DATABASE_URL="postgresql://$database:$server_password@127.0.0.1:$postgres_port/$database"
    export REDIS_URL="redis://:$server_password@127.0.0.1:$redis_port/0"
    export COMMUNE_DB_PREPARED=on COMMUNE_RATE_LIMIT_PER_MINUTE=0 COMMUNE_SEND_LIMIT_PER_MINUTE=0
    COMMUNE_SECRET_KEY=$(random_hex 32)
    PORT=$(free_port)
    COMMUNE_SMTP_PORT=$(free_port)
    export COMMUNE_SECRET_KEY PORT COMMUNE_SMTP_PORT
    export COMMUNE_HOST=127.0.0.1 COMMUNE_SMTP_HOST=127.0.0.1 COMMUNE_BASE_URL="http://127.0.0.1:$PORT"
    export COMMUNE_DEFAULT_DOMAIN=bench.test COMMUNE_MAIL_HOST=mail.bench.test COMMUNE_SMTP_ROUTES=""
    # No name server of the machine's is asked; what is measured goes by routes.
    export COMMUNE_DNS_SERVER=127.0.0.1:9
    quietly migrate commune migrate
}

# quietly LOG PROGRAM ARGUMENT…: its output only when it fails.
quietly() {
    local log="$bench_folder/$benchmark-$1.log" program=$2
    shift 2
    "$programs/$program" "$@" >>"$log" 2>&1 || { show_log "$log"; fail "$program $1 failed"; }
}

# make_caller NAME: an organization with a key and an inbox; sets `COMMUNE_API_KEY` and `inbox`. The API must run.
make_caller() {
    local -A answer
    quietly orgs commune orgs create "$1" --quiet
    COMMUNE_API_KEY=$("$programs/commune" keys create --org "$1" --scope admin --quiet 2>>"$bench_folder/$benchmark-orgs.log") \
        || fail "commune keys create failed"
    export COMMUNE_API_KEY
    call_api 201 POST /v1/inboxes "{\"local_part\":\"$1\",\"name\":\"$1\"}"
    json_read answer "$api_body"
    inbox=${answer[data.id]}
}

start_api() {
    start_process api "$bench_folder/$benchmark-api.log" -- "$programs/commune-api"
    await_ready api 30 is_ready
}

start_inbound() {
    start_process inbound "$bench_folder/$benchmark-inbound.log" -- "$programs/commune-inbound"
    await_ready inbound 30 greets_smtp 127.0.0.1 "$COMMUNE_SMTP_PORT"
}

# start_worker [ARGUMENT…]: ready when its heartbeat is in the database.
start_worker() {
    start_process worker "$bench_folder/$benchmark-worker.log" -- "$programs/commune-worker" "$@"
    await_ready worker 30 worker_is_seen
}

worker_is_seen() {
    [[ $(sql "SELECT count(*) FROM workers WHERE process = ${process_ids[worker]}") == 1 ]]
}

# stop_programs: what a benchmark may have started.
stop_programs() {
    stop_processes TERM 40 api inbound worker sink arrivals watch singles
}

# await_count SECONDS VALUE SQL: until SQL gives VALUE.
await_count() {
    local deadline=$(($(now_ms) + $1 * 1000)) found
    until found=$(sql "$3") && [[ $found == "$2" ]]; do
        (($(now_ms) < deadline)) || fail "after $1 s it is still $found instead of $2: $3"
        sleep 0.5
    done
}

# empty_installation: no message and no job, and the same state of the files, before a round.
empty_installation() {
    sql "TRUNCATE threads, messages, message_bodies, message_search, message_references, recipients, delivery_events,
        delivery_counts, jobs, received_mail, blobs, blob_chunks"
    redis_command FLUSHALL >/dev/null
    sql "VACUUM ANALYZE"
    sql "CHECKPOINT"
}

# close_installation: stops the programs and drops the database.
close_installation() {
    stop_programs
    postgres_query "$postgres_port" "$server_password" "DROP DATABASE IF EXISTS $database WITH (FORCE)"
}
