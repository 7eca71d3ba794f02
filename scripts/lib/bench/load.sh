# shellcheck shell=bash
# Load: sends over HTTP by wrk, mail over SMTP by Postfix' smtp-source, and where mail goes, Postfix' smtp-sink.

# Bytes of a message's text, the same for ours and for every peer.
text_bytes=2048
clients=64

# write_text: a text of `text_bytes` in lines, without anything that JSON or SMTP would have to quote.
write_text() {
    awk -v bytes="$text_bytes" 'BEGIN {
        for (n = 0; n < bytes; n++) printf "%s", (n % 64 == 63) ? "~" : substr("commune benchmark text ", n % 23 + 1, 1)
    }'
}

# write_send_body TO: the body of a send; line ends as JSON has them.
write_send_body() {
    printf '{"inboxId":"%s","to":"%s","subject":"Benchmark","text":"%s"}' \
        "$inbox" "$1" "$(write_text | sed 's/~/\\n/g')" >"$bench_folder/send.json"
}

# run_wrk SECONDS: `clients` connections post send.json; sets `wrk_requests`, `wrk_seconds` and `wrk_p99_ms`. Fails
# when any answer is no 2xx.
run_wrk() {
    wrk_with 2 "$1"
}

# send_by_http COUNT: `clients` connections post send.json until there are COUNT answers. Some more may have been
# accepted when it ends; sets `accepted` to how many messages the installation then has sent or will send.
send_by_http() {
    BENCH_COUNT=$1 wrk_with 1 600
    ((wrk_requests == $1)) || fail "$1 messages could not be sent within ten minutes"
    accepted=$(sql "SELECT count(*) FROM messages WHERE direction = 'outbound'")
}

wrk_with() {
    local log="$bench_folder/$benchmark-wrk.log" key value refused=1 broken=1
    BENCH_KEY=$COMMUNE_API_KEY BENCH_BODY="$bench_folder/send.json" run_in_session \
        wrk --threads "$1" --connections "$clients" --timeout 30s --duration "$2s" \
        --script "$root/scripts/bench.d/send.lua" "$COMMUNE_BASE_URL/v1/messages/send" >"$log" 2>&1 \
        || { show_log "$log"; fail "wrk failed"; }
    while IFS='=' read -r key value; do
        case $key in
            bench_requests) wrk_requests=$value ;;
            bench_seconds) wrk_seconds=$value ;;
            bench_p99_ms) wrk_p99_ms=$value ;;
            bench_refused) refused=$value ;;
            bench_broken) broken=$value ;;
        esac
    done <"$log"
    if ((refused || broken)); then
        show_log "$log"
        fail "$refused requests were refused, $broken broke"
    fi
}

# send_by_smtp PORT COUNT [TO]: COUNT messages over `clients` sessions that stay open.
send_by_smtp() {
    local log="$bench_folder/$benchmark-smtp-source.log"
    smtp-source -4 -d -s "$clients" -m "$2" -l "$text_bytes" -S Benchmark -f accept@bench.test -t "${3:-someone@peer.test}" \
        -M client.bench.test "127.0.0.1:$1" >"$log" 2>&1 || { show_log "$log"; fail "smtp-source failed"; }
}

# divide A B [DIGITS]
divide() {
    awk -v a="$1" -v b="$2" -v digits="${3:-0}" 'BEGIN { printf "%.*f", digits, b ? a / b : 0 }'
}

# start_sink: a fresh smtp-sink on `sink_port`, which is chosen once; what arrives when is told by arrivals.tsv.
start_sink() {
    stop_processes TERM 10 sink
    sink_port=${sink_port:-$(free_port)}
    : >"$bench_folder/arrivals.tsv"
    start_process sink "$bench_folder/$benchmark-sink.log" -- "$python" "$root/scripts/lib/bench/sink.py" \
        "$sink_port" "$bench_folder/arrivals.tsv"
    await_ready sink 10 greets_smtp 127.0.0.1 "$sink_port"
}

# arrived: how many messages have come to the sink.
arrived() {
    local count=0
    read -r _ count < <(tail -n 1 "$bench_folder/arrivals.tsv") || true
    printf '%s' "${count:-0}"
}

# await_arrivals_from COUNT SECONDS: until at least COUNT messages came.
await_arrivals_from() {
    local deadline=$(($(now_ms) + $2 * 1000))
    until (($(arrived) >= $1)); do
        (($(now_ms) < deadline)) || fail "after $2 s only $(arrived) of $1 messages have arrived"
        sleep 0.1
    done
}

# await_arrivals COUNT SECONDS: until COUNT messages came and no more; sets `first_arrival` and `last_arrival` in ms since 1970.
await_arrivals() {
    local count
    await_arrivals_from "$@"
    # One too many would come a moment later.
    sleep 0.2
    read -r first_arrival _ <"$bench_folder/arrivals.tsv"
    read -r last_arrival count < <(tail -n 1 "$bench_folder/arrivals.tsv")
    ((count == $1)) || fail "$count messages arrived instead of $1"
}
