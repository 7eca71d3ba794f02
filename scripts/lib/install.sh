#!/usr/bin/env bash
# Installs Debian packages without letting their services run: the scripts start private servers of their own,
# and a database or mail server that appears on a machine unasked is a nuisance. Run as root.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/lib/install.sh PACKAGE…

Installs packages with apt-get (after apt-get update when the lists are missing or old). Services of newly
installed packages are neither started nor enabled, no PostgreSQL cluster is made, and nothing is removed.
scripts/run and scripts/test call this; it needs root.

Example: sudo scripts/lib/install.sh postgresql redis-server
TEXT
}

case ${1:-} in
    "" | --help | -h)
        usage
        exit 0
        ;;
esac
((EUID == 0)) || { echo "install.sh: needs root" >&2; exit 1; }

policy=/usr/sbin/policy-rc.d
cluster_settings=/etc/postgresql-common/createcluster.conf
ours="# written by Commune's scripts/lib/install.sh for the length of one installation"
kept=$(mktemp -d)

# Puts the machine's own settings back, however this ends.
restore() {
    if [[ -e $kept/policy-rc.d ]]; then
        cp -p "$kept/policy-rc.d" "$policy"
    elif grep -qsF "$ours" "$policy"; then
        rm -f "$policy"
    fi
    [[ ! -e $kept/createcluster.conf ]] || cp -p "$kept/createcluster.conf" "$cluster_settings"
    rm -rf "$kept"
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# invoke-rc.d asks this program; 101 forbids to start. A file of ours that an earlier kill -9 left is not kept.
if [[ -e $policy ]] && ! grep -qF "$ours" "$policy"; then
    cp -p "$policy" "$kept/policy-rc.d"
fi
printf '#!/bin/sh\n%s\nexit 101\n' "$ours" >"$policy"
chmod 755 "$policy"

# Non-interactive, and --no-remove: a mail server that is there already (exim4) must not go for postfix.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet --no-install-recommends --no-remove \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@"
}

# Lists may be missing (fresh images) or name versions that the mirror no longer has.
lists_are_fresh() {
    [[ -n $(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 -print -quit 2>/dev/null) ]]
}

install_now() {
    lists_are_fresh || apt update
    apt install "$@" || { apt update && apt install "$@"; }
}

# A package's services, by the units and init scripts that it brings.
services_of() {
    dpkg-query --listfiles "$1" 2>/dev/null \
        | sed -nE 's#^(/usr)?/lib/systemd/system/([^/@]+)\.service$#\2#p; s#^/etc/init\.d/([^/]+)$#\1#p' | sort -u
}

installed_packages() {
    dpkg-query --show --showformat='${binary:Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p' | sort
}

installed_packages >"$kept/before"

if printf '%s\n' "$@" | grep -qE '^postgresql(-[0-9]+)?$'; then
    # postgresql-common first, so that its settings exist and can forbid the cluster "main".
    install_now postgresql-common
    cp -p "$cluster_settings" "$kept/createcluster.conf"
    sed -i '/^[#[:space:]]*create_main_cluster/d' "$cluster_settings"
    echo "create_main_cluster = false" >>"$cluster_settings"
fi
if printf '%s\n' "$@" | grep -qx postfix && command -v debconf-set-selections >/dev/null; then
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
fi
install_now "$@"

# What is new must not start at the next boot either; services that were here before stay as they are.
installed_packages | comm -13 "$kept/before" - | while read -r package; do
    services_of "$package" | while read -r service; do
        case $service in
            postgresql | redis-server | postfix | unbound | pgbouncer)
                update-rc.d "$service" disable >/dev/null 2>&1 || true
                ;;
        esac
    done
done
