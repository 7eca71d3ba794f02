# shellcheck shell=bash
# Calls of the HTTP API.

# api METHOD PATH [BODY]: sets `api_status` and `api_body`. The key comes by a file, not in the process list.
api() {
    local answer
    answer=$(
        curl --silent --show-error --noproxy '*' --max-time 15 --request "$1" \
            --config <(printf 'header = "Authorization: Bearer %s"\n' "$COMMUNE_API_KEY") \
            --header "Content-Type: application/json" --write-out '\n%{http_code}' \
            ${3+--data-binary "$3"} "$COMMUNE_BASE_URL$2"
    ) || return 1
    api_status=${answer##*$'\n'}
    api_body=${answer%$'\n'*}
}

# call_api STATUS METHOD PATH [BODY]: fails with the answer when the status is another.
call_api() {
    local wanted=$1
    shift
    api "$@" || fail "the API does not answer $1 $2"
    [[ $api_status == "$wanted" ]] \
        || fail "the API answered $1 $2 with $api_status instead of $wanted:"$'\n'"$api_body"
}

# is_ready: the API answers /readyz with 200.
is_ready() {
    curl --silent --fail --noproxy '*' --max-time 5 --output /dev/null "$COMMUNE_BASE_URL/readyz"
}

# greets_smtp HOST PORT: a mail server's greeting comes.
greets_smtp() {
    local line
    exec 3<>"/dev/tcp/$1/$2" || return 1
    read -r -t 5 -u 3 line || true
    printf 'QUIT\r\n' >&3
    exec 3>&-
    [[ $line == 220* ]]
}
