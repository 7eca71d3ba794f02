# shellcheck shell=bash
# Programs and servers that a script starts, and only those: start, look after, stop.

declare -A process_ids=()  # name → process id
declare -A process_logs=() # name → log file

# start_process NAME LOG [setpriv option…] -- COMMAND…
# A session of its own, so that Ctrl-C reaches the script alone, which then stops things in order. Should the
# script itself be killed, the kernel ends the process (PDEATHSIG). Descriptor 9 is the script's lock.
start_process() {
    local name=$1 log=$2
    shift 2
    setsid setpriv --pdeathsig "${death_signal:-TERM}" "$@" >>"$log" 2>&1 </dev/null 9>&- &
    process_ids[$name]=$!
    process_logs[$name]=$log
}

# is_running NAME
is_running() {
    [[ -n ${process_ids[$1]:-} ]] && kill -0 "${process_ids[$1]}" 2>/dev/null
}

# signal_process NAME SIGNAL: a process that has gone meanwhile is no fault.
signal_process() {
    [[ -z ${process_ids[$1]:-} ]] || kill -s "$2" "${process_ids[$1]}" 2>/dev/null || true
}

# await_end NAME SECONDS: waits for a process that was told to end; kills it when the time is over.
await_end() {
    local name=$1 deadline=$(($(now_ms) + $2 * 1000))
    while is_running "$name"; do
        if (($(now_ms) > deadline)); then
            say "  $name did not end within $2 s: killed"
            signal_process "$name" KILL
            break
        fi
        sleep 0.05
    done
    [[ -z ${process_ids[$name]:-} ]] || wait "${process_ids[$name]}" 2>/dev/null || true
    unset "process_ids[$name]"
}

# stop_processes SIGNAL SECONDS NAME…: all at once, then waits for each.
stop_processes() {
    local signal=$1 seconds=$2 name
    shift 2
    for name in "$@"; do signal_process "$name" "$signal"; done
    for name in "$@"; do await_end "$name" "$seconds"; done
}

# fail_with_log NAME TEXT…: fails, after the end of that process' log.
fail_with_log() {
    local name=$1
    shift
    show_log "${process_logs[$name]}"
    fail "$*"
}

# await_ready NAME SECONDS COMMAND…: until COMMAND succeeds; fails with the log when the process ends or time is over.
await_ready() {
    local name=$1 seconds=$2
    local deadline=$(($(now_ms) + seconds * 1000))
    shift 2
    until "$@" >/dev/null 2>&1; do
        is_running "$name" || fail_with_log "$name" "$name ended while starting"
        (($(now_ms) < deadline)) || fail_with_log "$name" "$name was not ready within $seconds s"
        sleep 0.1
    done
    is_running "$name" || fail_with_log "$name" "$name ended while starting"
}

running_session=0

# run_in_session COMMAND…: a long command in a session of its own, so that a signal to the script is handled at once
# and nothing that the command started outlives it. Returns its status.
run_in_session() {
    local status=0
    setsid setpriv --pdeathsig TERM -- "$@" 9>&- &
    running_session=$!
    wait "$running_session" || status=$?
    end_session
    return "$status"
}

# end_session: ends what is left of the running session; politely first, for swift writes its state.
end_session() {
    ((running_session)) || return 0
    local attempt
    signal_session TERM || true
    for ((attempt = 0; attempt < 30; attempt++)); do
        signal_session 0 || break
        sleep 0.1
    done
    signal_session KILL || true
    running_session=0
}

# signal_session SIGNAL: every process of the session, whichever group it is in; false when there is none.
signal_session() {
    local file stat fields found=1
    for file in /proc/[0-9]*/stat; do
        # "pid (name) state ppid pgrp session …", where the name may hold anything.
        read -r stat 2>/dev/null <"$file" || continue
        read -r -a fields <<<"${stat##*) }"
        [[ ${fields[3]} == "$running_session" && ${fields[0]} != Z ]] || continue
        if kill -s "$1" "${stat%% *}" 2>/dev/null; then found=0; fi
    done
    return "$found"
}
