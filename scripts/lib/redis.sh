# shellcheck shell=bash
# A private Redis: a free port on loopback, a password, and never eviction, which Commune refuses to start with.

# start_redis FOLDER PORT PASSWORD LOG [durable]: `durable` keeps its content over restarts.
start_redis() {
    local folder="$1/redis" port=$2 password=$3 log=$4 append=no
    [[ ${5:-} != durable ]] || append=yes
    mkdir -p "$folder"
    # A file, because arguments show in the process list.
    (umask 077 && cat >"$folder/redis.conf") <<CONF
bind 127.0.0.1
port $port
dir $folder
requirepass $password
maxmemory-policy noeviction
save ""
appendonly $append
daemonize no
CONF
    [[ -z $server_user ]] || chown -R "$server_user:" "$folder"
    start_process redis "$log" "${server_privileges[@]}" -- "$redis_server" "$folder/redis.conf"
    await_ready redis 30 redis_answers "$port" "$password"
}

# require_redis: sets `redis_server`; Valkey is as good.
require_redis() {
    redis_server=$(command -v redis-server || command -v valkey-server || true)
    [[ -n $redis_server ]] || require_packages redis-server
    redis_server=$(command -v redis-server || command -v valkey-server) || fail "no redis-server found"
}

# redis_answers PORT PASSWORD: speaks the protocol itself, for redis-cli may be missing where Valkey is used.
redis_answers() {
    local answer
    answer=$(
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf 'AUTH %s\r\nPING\r\nQUIT\r\n' "$2" >&3
        timeout 5 cat <&3
    ) && [[ $answer == *+PONG* ]]
}
