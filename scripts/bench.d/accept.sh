# shellcheck shell=bash
# Durable accepts: POST /v1/messages/send, against Postfix taking mail, and against pgbench with the same INSERTs

bench_accept() {
    local seconds messages round
    seconds=$(chosen_count 10 2)
    messages=$(chosen_count 20000 1000)

    open_installation
    # Recipients' domains are judged at the send; of this one no DNS knows.
    export COMMUNE_SMTP_ROUTES="peer.test=127.0.0.1:9"
    start_api
    make_caller accept
    write_send_body someone@peer.test
    # A worker keeps the schedule in Redis standing, so that every accept also pushes; it is not to send.
    quietly pause commune queues pause send

    for ((round = 1; round <= rounds; round++)); do
        accept_ours "$seconds"
        accept_postfix "$messages"
        accept_pgbench "$seconds"
    done
    compare "Accepted messages, $clients clients" "messages/s" "commune-api" "postfix" 3 "Postfix, queue held"
    compare "Accepted messages, share of the bare INSERTs" "messages/s" "commune-api" "pgbench" 0.4 "pgbench, prepared, pipelined"
    figure "p99 of an accept" "ms" "commune-api p99"
}

accept_ours() {
    local rows
    empty_installation
    start_worker --queues send
    run_wrk 1 # connections, statements, caches
    empty_tables
    run_wrk "$1"
    record "commune-api" "$(divide "$wrk_requests" "$wrk_seconds")"
    record "commune-api p99" "$wrk_p99_ms"
    rows=$(sql "SELECT count(*) FROM messages m JOIN jobs j ON j.org_id = m.org_id AND j.payload->>'message' = m.id::text")
    # Those under way when wrk stops are committed and not counted.
    ((rows >= wrk_requests && rows <= wrk_requests + clients)) \
        || fail "$wrk_requests requests were accepted, and $rows messages with their jobs are there"
    accept_writes ours
    stop_processes TERM 40 worker
}

empty_tables() {
    sql "TRUNCATE threads, messages, message_bodies, message_search, message_references, recipients, delivery_events, jobs"
    sql "SELECT pg_stat_reset()" >/dev/null
    sql "CHECKPOINT"
}

accept_postfix() {
    local started held
    start_postfix hold
    send_by_smtp "$postfix_port" "$clients" # processes start
    started=$(now_ms)
    send_by_smtp "$postfix_port" "$1"
    record "postfix" "$(divide "$(($1 * 1000))" "$(($(now_ms) - started))")"
    held=$(find "$postfix_folder/spool/hold" -type f | wc -l)
    ((held == $1 + clients)) || fail "Postfix holds $held messages instead of $(($1 + clients))"
    stop_postfix
}

# pgbench with the statements of Store.accept. With eight connections, as ours has, and with one for each client; the
# better of the two counts.
accept_pgbench() {
    local connections rate best=0
    for connections in 8 "$clients"; do
        empty_installation
        sql "SELECT pg_stat_reset()" >/dev/null
        rate=$(run_pgbench "$connections" "$1")
        record "pgbench, $connections connections" "$rate"
        ((rate <= best)) || best=$rate
    done
    record "pgbench" "$best"
    accept_writes pgbench
}

# run_pgbench CONNECTIONS SECONDS: transactions a second. As the installation's own login: policies are in force.
run_pgbench() {
    local log="$bench_folder/pgbench.log" org domain
    IFS=$'\t' read -r org domain < <(sql "SELECT org_id, domain_id FROM inboxes WHERE id = '$inbox'")
    PGPASSWORD=$server_password "$postgres_bin/pgbench" --no-vacuum --protocol=prepared --client="$1" --jobs=2 \
        --time="$2" --file="$root/scripts/bench.d/accept.sql" \
        --define=n=0 --define=clients="$1" --define=org="$org" --define=inbox="$inbox" --define=domain="$domain" \
        --define=content="$(write_text | tr '~' '\n')" \
        --host=127.0.0.1 --port="$postgres_port" --username="$database" "$database" >"$log" 2>&1 \
        || { show_log "$log"; fail "pgbench failed"; }
    sed -nE 's/^tps = ([0-9]+).*/\1/p' "$log"
}

# accept_writes WHO: rows written by table and transaction must be the same for both, or the comparison is none.
accept_writes() {
    local written
    sql "SELECT pg_stat_force_next_flush()" >/dev/null
    sleep 1.5 # sessions tell their counts at most once a second
    written=$(sql "SELECT relname, round(n_tup_ins::numeric / (SELECT n_tup_ins FROM pg_stat_user_tables
        WHERE relname = 'messages'), 2) FROM pg_stat_user_tables WHERE n_tup_ins > 100 ORDER BY relname")
    printf '%s\n' "$written" >"$bench_folder/written.$1"
    [[ $1 == ours ]] || cmp -s "$bench_folder/written.ours" "$bench_folder/written.$1" || {
        diff "$bench_folder/written.ours" "$bench_folder/written.$1" >&2 || true
        fail "bench.d/accept.sql no longer writes what a send writes (Sources/Shared/Store/Submissions.swift)"
    }
}
