# shellcheck shell=bash
# What was measured: every round in raw.tsv, what is compared or bounded in rows.tsv, the machine in machine.tsv.
# report.py makes the tables of them.

# record SERIES VALUE: a figure of this round.
record() {
    printf '%s\t%s\t%s\t%s\n' "$benchmark" "$1" "${round:-1}" "$2" >>"$bench_folder/raw.tsv"
    printf '  %-44s %s\n' "round ${round:-1}: $1" "$2"
}

# compare WHAT UNIT OURS PEER RATIO PEER_NAME: our median must be at least RATIO times the peer's.
compare() {
    printf 'compare\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$benchmark" "$@" >>"$bench_folder/rows.tsv"
}

# bound WHAT UNIT SERIES LIMIT: the median of SERIES must be less than LIMIT.
bound() {
    printf 'bound\t%s\t%s\t%s\t%s\t%s\n' "$benchmark" "$@" >>"$bench_folder/rows.tsv"
}

# figure WHAT UNIT SERIES: a median that is told and has no limit.
figure() {
    printf 'figure\t%s\t%s\t%s\t%s\n' "$benchmark" "$@" >>"$bench_folder/rows.tsv"
}

# fact NAME VALUE: something about the machine or a program, for the head of the report.
fact() {
    printf '%s\t%s\n' "$1" "$2" >>"$bench_folder/machine.tsv"
}

# chosen_count FULL QUICK: how much to measure.
chosen_count() {
    if $quick; then printf '%s' "$2"; else printf '%s' "$1"; fi
}

version_of() {
    dpkg-query --show --showformat='${Version}' "$1" 2>/dev/null || printf 'not from Debian'
}

describe_machine() {
    fact "date" "$(date --utc --iso-8601=minutes)"
    fact "commit" "$(git -C "$root" describe --always --dirty 2>/dev/null || printf unknown)"
    fact "processor" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    fact "memory" "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
    fact "disk" "$(findmnt --noheadings --output FSTYPE,SOURCE --target "$bench_folder" | tr -s ' '); $(fsync_time) ms for a write of 8 KiB with fsync"
    fact "kernel" "$(uname -sr)"
    fact "Swift" "$(swift --version 2>/dev/null | head -n 1)"
    fact "PostgreSQL" "$("$postgres_bin/postgres" --version | sed 's/^[^0-9]*//')"
    fact "Redis" "$("$redis_server" --version | sed -E 's/^.* v=([^ ]+).*/\1/')"
    local package
    for package in postfix opendkim wrk ruby-sidekiq ruby; do fact "$package" "$(version_of "$package")"; done
}

# fsync_time: the median of 200 writes with fsync, on the disk where all queues and databases of this run are.
fsync_time() {
    "$python" - "$bench_folder/fsync" <<'PYTHON'
import os, statistics, sys, time

times, file = [], os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
for _ in range(200):
    begun = time.perf_counter()
    os.write(file, bytes(8192))
    os.fsync(file)
    times.append(time.perf_counter() - begun)
os.unlink(sys.argv[1])
print(f"{statistics.median(times) * 1000:.2f}")
PYTHON
}

# report: prints the tables; writes docs/BENCHMARKS.md after a full run. Status 2 when a limit does not hold.
report() {
    local page=()
    if ! $quick && [[ -z $only ]]; then page=(--page "$root/docs/BENCHMARKS.md"); fi
    "$python" "$root/scripts/lib/bench/report.py" "$bench_folder" "${page[@]}"
}
