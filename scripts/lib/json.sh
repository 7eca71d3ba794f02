# shellcheck shell=bash
# JSON answers in the shell.

# json_read MAP TEXT: fills the associative array MAP with path → value, as in data.0.id.
json_read() {
    local -n json_map=$1
    local path value
    json_map=()
    while IFS=$'\t' read -r path value; do
        # shellcheck disable=SC2004  # the keys are text
        json_map[$path]=$value
    done < <(awk -v mode=paths -f "$root/scripts/lib/json.awk" <<<"$2")
}

# json_pretty TEXT [PATH]: TEXT, or the value at PATH in it, indented for reading.
json_pretty() {
    awk -v mode=pretty -v at="${2:-}" -f "$root/scripts/lib/json.awk" <<<"$1"
}
