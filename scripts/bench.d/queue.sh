# shellcheck shell=bash
# Empty jobs through the whole queue, PostgreSQL included, against Sidekiq; and how soon an idle queue takes one

bench_queue() {
    local jobs singles round
    jobs=$(chosen_count 100000 5000)
    singles=$(chosen_count 500 50)

    open_installation
    for ((round = 1; round <= rounds; round++)); do
        queue_ours "$jobs"
        queue_sidekiq "$jobs"
    done
    compare "Empty jobs, preloaded, from the first start to the last end" "jobs/s" "commune-worker" "sidekiq" 1 \
        "Sidekiq, nothing durable"

    for ((round = 1; round <= rounds; round++)); do queue_pickup "$singles"; done
    bound "Pickup by an idle queue, from commit to start: p99" "ms" "pickup p99" 20
    figure "Pickup by an idle queue: p50" "ms" "pickup p50"
}

queue_ours() {
    local -A answer
    empty_installation
    start_worker --queues probe --concurrency "$queue_concurrency"
    # The first ones warm up, as Sidekiq's do.
    probe --jobs 1000 >/dev/null
    json_read answer "$(probe --jobs "$1" --held --timeout 300)"
    record "commune-worker" "${answer[per_second]%.*}"
    stop_processes TERM 40 worker
}

# One process; more jobs at a time only lengthen the batches.
queue_concurrency=500

probe() {
    "$programs/commune" queues probe --json "$@" 2>"$bench_folder/probe.log" \
        || { show_log "$bench_folder/probe.log"; fail "commune queues probe failed"; }
}

queue_sidekiq() {
    local rate
    rate=$(REDIS_URL="redis://:$server_password@127.0.0.1:$redis_port/1" timeout 300 \
        ruby "$root/scripts/bench.d/sidekiq.rb" "$1" 2>"$bench_folder/sidekiq.log") \
        || { show_log "$bench_folder/sidekiq.log"; fail "Sidekiq failed"; }
    record "sidekiq" "$rate"
}

queue_pickup() {
    local -A answer
    empty_installation
    start_worker --queues probe
    probe --jobs 20 --one-at-a-time >/dev/null
    json_read answer "$(probe --jobs "$1" --one-at-a-time --timeout 300)"
    record "pickup p99" "$(printf '%.2f' "${answer[p99]}")"
    record "pickup p50" "$(printf '%.2f' "${answer[p50]}")"
    stop_processes TERM 40 worker
}
