# shellcheck shell=bash
# From the API through queue and worker to smtp-sink, signed, against Postfix with OpenDKIM and Postfix unsigned

bench_delivery() {
    local messages round
    messages=$(chosen_count 8000 500)

    open_installation
    # Recipients' domains are judged at the send; of this one no DNS knows.
    export COMMUNE_SMTP_ROUTES="peer.test=127.0.0.1:9"
    start_api
    make_caller accept
    write_send_body someone@peer.test
    for ((round = 1; round <= rounds; round++)); do
        start_sink
        export COMMUNE_SMTP_ROUTES="peer.test=127.0.0.1:$sink_port"
        delivery_ours "$messages"
        delivery_waiting "$messages"
        delivery_postfix "$messages" signed
        delivery_postfix "$messages" unsigned
    done
    compare "Messages from the first request to the last arrival, signed twice" "messages/s" "commune" "postfix signed" 3 \
        "Postfix with OpenDKIM"
    compare "The same against a Postfix that signs nothing" "messages/s" "commune" "postfix unsigned" 1 "Postfix unsigned"
    figure "Messages that wait already, from the first arrival to the last" "messages/s" "commune, waiting"
}

# Accepting, queueing, signing and delivering at the same time.
delivery_ours() {
    local begun
    empty_installation
    start_sink
    start_worker --queues send
    begun=$(now_ms)
    send_by_http "$1"
    await_arrivals "$accepted" 300
    record "commune" "$(divide "$((accepted * 1000))" "$((last_arrival - begun))")"
    await_count 60 0 "SELECT count(*) FROM recipients WHERE state <> 'delivered'"
    stop_processes TERM 40 worker
}

# The worker alone: all is accepted before the queue is let go.
delivery_waiting() {
    empty_installation
    start_sink
    quietly pause commune queues pause send
    start_worker --queues send
    send_by_http "$1"
    quietly resume commune queues resume send
    await_arrivals "$accepted" 300
    record "commune, waiting" "$(divide "$((accepted * 1000))" "$((last_arrival - first_arrival))")"
    stop_processes TERM 40 worker
}

delivery_postfix() {
    local begun
    start_sink
    if [[ $2 == signed ]]; then
        start_opendkim
        start_postfix relay "$milter_port"
    else
        start_postfix relay
    fi
    # Its processes start, and a message goes through, before the clock does.
    send_by_smtp "$postfix_port" "$clients"
    await_arrivals "$clients" 60
    start_sink
    begun=$(now_ms)
    send_by_smtp "$postfix_port" "$1"
    await_arrivals "$1" 600
    record "postfix $2" "$(divide "$(($1 * 1000))" "$((last_arrival - begun))")"
    stop_postfix
    if [[ $2 == signed ]]; then stop_opendkim; fi
}
