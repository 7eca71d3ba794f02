# shellcheck shell=bash
# One organization floods the queue; how long single messages of another take from the request to the other mail server

bench_fairness() {
    local flood singles round=1
    flood=$(chosen_count 100000 8000)
    singles=$(chosen_count 20 3)

    open_installation
    start_sink
    quiet_port=$(free_port)
    export COMMUNE_SMTP_ROUTES="peer.test=127.0.0.1:$sink_port,quiet.test=127.0.0.1:$quiet_port"
    start_api
    make_caller quiet
    local quiet_key=$COMMUNE_API_KEY quiet_inbox=$inbox
    make_caller flood
    write_send_body someone@peer.test

    # The flood waits whole before a worker comes: the other's messages meet it at its longest.
    quietly pause commune queues pause send
    start_worker --queues send
    send_by_http "$flood"
    quietly resume commune queues resume send
    await_arrivals_from 100 60

    fairness_singles "$singles" "$quiet_key" "$quiet_inbox"
    fairness_flood_remains
    stop_processes TERM 40 worker
    bound "A single message beside a flood of $flood, from the request to its arrival: worst of $singles" "ms" "single worst" 1000
    figure "The same, median" "ms" "single median"
}

# fairness_singles COUNT KEY INBOX: one after the other, each when the one before has arrived.
fairness_singles() {
    local log="$bench_folder/singles.log" delays
    BENCH_KEY=$2 run_in_session "$python" "$root/scripts/lib/bench/singles.py" "$COMMUNE_BASE_URL" "$3" someone@quiet.test \
        "$quiet_port" "$1" >"$log" 2>&1 || { show_log "$log"; fail "a single message did not arrive"; }
    delays=$(<"$log")
    record "single median" "$(sed -n 's/^median //p' <<<"$delays")"
    record "single worst" "$(sed -n 's/^worst //p' <<<"$delays")"
}

# Had the flood ended before, nothing would have been shown.
fairness_flood_remains() {
    local left
    left=$(sql "SELECT count(*) FROM jobs WHERE queue = 'send' AND state = 'queued'")
    record "flood left at the end" "$left"
    ((left > 0)) || fail "the flood was over before the last single message: make it larger"
}
