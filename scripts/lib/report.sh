# shellcheck shell=bash
# What the scripts tell the person who started them: steps with their time, and failures.

# say TEXT…: one line.
say() { printf '%s\n' "$*"; }

# heading TEXT…: the start of a part.
heading() { printf '\n== %s\n' "$*"; }

# fail TEXT…: the reason to stop, and the stop. The script's EXIT trap cleans up.
fail() {
    printf '\n%s: %s\n' "$script_name" "$*" >&2
    exit 1
}

# show_log FILE [LINES]: the end of a log, indented, to standard error.
show_log() {
    local file=$1 lines=${2:-20}
    printf '\n-- last lines of %s\n' "$file" >&2
    if [[ -s $file ]]; then
        tail -n "$lines" "$file" | sed 's/^/   /' >&2
    else
        printf '   (empty)\n' >&2
    fi
}

# unexpected LINE COMMAND: for the ERR trap, so that no script ends without a word.
unexpected() {
    printf '\n%s: line %s failed: %s\n' "$script_name" "$1" "$2" >&2
}

# now_ms: milliseconds since 1970. EPOCHREALTIME's decimal mark depends on the locale.
now_ms() {
    local microseconds=${EPOCHREALTIME//[.,]/}
    printf '%s' "$((microseconds / 1000))"
}

# since START: the time from START (of now_ms) as "1.23 s".
since() {
    local spent=$(($(now_ms) - $1))
    printf '%d.%02d s' "$((spent / 1000))" "$((spent % 1000 / 10))"
}

# done_step START TEXT…: one finished step with its time.
done_step() {
    local start=$1
    shift
    printf '  %-9s %s\n' "$(since "$start")" "$*"
}
