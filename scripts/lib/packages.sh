# shellcheck shell=bash
# System packages from Debian: which are missing, and getting them.

# What Swift needs to link on Linux, and the C libraries of Package.swift.
build_packages=(
    binutils ca-certificates git gcc libc6-dev libstdc++-12-dev pkg-config tzdata zlib1g-dev
    libpq-dev libhiredis-dev libunbound-dev libpsl-dev libidn2-dev libssl-dev
)
# What `swift build` itself is linked with.
toolchain_packages=(libcurl4 libncurses6 libsqlite3-0 libxml2)

# missing_packages PACKAGE…: those not installed, one a line.
missing_packages() {
    local package
    for package in "$@"; do
        [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] \
            || printf '%s\n' "$package"
    done
}

# require_packages PACKAGE…: installs what is missing, as root or by sudo; otherwise says what to run and stops.
require_packages() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "This is no Debian: install the equivalents of these by hand, should the next steps miss them:"
        say "  $*"
        return
    fi
    local missing
    mapfile -t missing < <(missing_packages "$@")
    ((${#missing[@]})) || return 0

    local install="$root/scripts/lib/install.sh"
    if ((EUID == 0)); then
        say "Installing from Debian: ${missing[*]}"
        "$install" "${missing[@]}" </dev/null || fail "the packages could not be installed: ${missing[*]}"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
        say "Installing from Debian, by sudo: ${missing[*]}"
        sudo "$install" "${missing[@]}" || fail "the packages could not be installed: ${missing[*]}"
    else
        printf '\n%s: packages are missing. Run this line as root, then start again:\n\n  %s\n\n' \
            "$script_name" "$install ${missing[*]}" >&2
        exit 1
    fi
}
