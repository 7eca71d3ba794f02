# shellcheck shell=bash
# Memory of each program while 100,000 messages go out and as many come in

bench_memory() {
    local messages program round=1
    messages=$(chosen_count 100000 2000)

    open_installation
    start_sink
    export COMMUNE_SMTP_ROUTES="peer.test=127.0.0.1:$sink_port"
    start_api
    make_caller accept
    write_send_body someone@peer.test
    start_inbound
    start_worker --queues send,process-inbound
    start_process watch "$bench_folder/memory.tsv" -- "$python" "$root/scripts/lib/bench/memory.py" watch \
        "api=${process_ids[api]}" "inbound=${process_ids[inbound]}" "worker=${process_ids[worker]}"

    send_by_http "$messages"
    send_by_smtp "$COMMUNE_SMTP_PORT" "$messages" accept@bench.test
    # By its indexes: counting 200,000 rows again and again would be the greater load.
    await_count 900 f "SELECT EXISTS (SELECT FROM jobs WHERE state = 'queued') OR EXISTS (SELECT FROM jobs WHERE state = 'running')"
    await_count 10 0 "SELECT count(*) FROM recipients WHERE state <> 'delivered'"
    record "messages sent" "$(sql "SELECT count(*) FROM messages WHERE direction = 'outbound'")"
    record "messages received" "$(sql "SELECT count(*) FROM messages WHERE direction = 'inbound'")"
    stop_processes TERM 10 watch

    for program in api inbound worker; do
        memory_of "$program"
        bound "commune-$program: peak" "MB" "$program peak" 100
        bound "commune-$program: growth over the second half of its work" "MB" "$program growth" 5
        figure "commune-$program: at the end" "MB" "$program end"
    done
}

memory_of() {
    local figure value
    while read -r figure value; do record "$1 $figure" "$value"; done \
        < <("$python" "$root/scripts/lib/bench/memory.py" summary "$1" "$bench_folder/memory.tsv")
}
