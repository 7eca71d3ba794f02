# shellcheck shell=bash
# Free TCP ports on this machine.

# port_is_free PORT: nobody listens on it, and no connection uses it; one that merely lingers (06, TIME_WAIT) does not
# hinder a server.
port_is_free() {
    local hex
    printf -v hex '%04X' "$1"
    ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port=":$hex" '
        index($2, port) == length($2) - 4 && $4 != "06" { found = 1 }
        END { exit !found }'
}

# free_port: a random one below the range that the kernel hands out to outgoing connections.
free_port() {
    local port attempt
    for ((attempt = 0; attempt < 200; attempt++)); do
        port=$((15000 + (RANDOM * 32768 + RANDOM) % 17000))
        if port_is_free "$port"; then
            printf '%s' "$port"
            return
        fi
    done
    fail "no free TCP port found"
}
