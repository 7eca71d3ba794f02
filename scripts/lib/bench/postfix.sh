# shellcheck shell=bash
# A Postfix of our own: Debian's programs, everything else in the folder of this run, on the disk of our PostgreSQL.

postfix_folder=""

# start_postfix PURPOSE [MILTER_PORT]: PURPOSE `hold` accepts and does nothing more; `relay` delivers to the sink on
# `sink_port`. Sets `postfix_port`.
start_postfix() {
    local purpose=$1 milter=${2:-}
    postfix_folder="$bench_folder/postfix"
    postfix_port=$(free_port)
    rm -rf "$postfix_folder"
    mkdir -p "$postfix_folder"/{etc,spool,data}
    chown postfix: "$postfix_folder/data"
    chmod 700 "$postfix_folder/data"
    postfix_services >"$postfix_folder/etc/master.cf"
    {
        postfix_settings
        case $purpose in
            # Held at once: neither the queue manager nor a delivery agent ever sees the message.
            hold) say "smtpd_recipient_restrictions = check_client_access static:HOLD, permit_mynetworks, reject" ;;
            # As many connections to one place as ours may make; both begin with five.
            relay)
                say "relayhost = [127.0.0.1]:$sink_port"
                say "smtp_destination_concurrency_limit = 100"
                ;;
        esac
        [[ -z $milter ]] || say "smtpd_milters = inet:127.0.0.1:$milter"
    } >"$postfix_folder/etc/main.cf"
    postfix -c "$postfix_folder/etc" start >"$postfix_folder/start.log" 2>&1 \
        || { show_log "$postfix_folder/start.log"; fail "Postfix does not start"; }
    await_postfix
}

# What Debian's master.cf runs, without chroot and without what only local submission needs.
postfix_services() {
    cat <<TEXT
127.0.0.1:$postfix_port inet n - n - - smtpd
cleanup    unix  n - n - 0 cleanup
qmgr       unix  n - n 300 1 qmgr
rewrite    unix  - - n - - trivial-rewrite
bounce     unix  - - n - 0 bounce
defer      unix  - - n - 0 bounce
trace      unix  - - n - 0 bounce
verify     unix  - - n - 1 verify
flush      unix  n - n 1000? 0 flush
proxymap   unix  - - n - - proxymap
smtp       unix  - - n - - smtp
error      unix  - - n - - error
retry      unix  - - n - - error
anvil      unix  - - n - 1 anvil
scache     unix  - - n - 1 scache
postlog    unix-dgram n - n - 1 postlogd
TEXT
}

# Debian's defaults but for what a private instance needs, and for look-ups that would slow it down.
postfix_settings() {
    cat <<TEXT
compatibility_level = 3.6
queue_directory = $postfix_folder/spool
data_directory = $postfix_folder/data
maillog_file = $postfix_folder/postfix.log
myhostname = mx.bench.test
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
alias_maps =
alias_database =
# A message that is refused or cannot be delivered must show in a count, not in a bounce.
notify_classes =
# No pause for a client because much has come: what is asked is how fast it can be.
in_flow_delay = 0
TEXT
}

await_postfix() {
    local deadline=$(($(now_ms) + 20000))
    until greets_smtp 127.0.0.1 "$postfix_port" 2>/dev/null; do
        (($(now_ms) < deadline)) || { show_log "$postfix_folder/postfix.log"; fail "Postfix does not answer"; }
        sleep 0.1
    done
}

# stop_postfix: ends it with everything that waits in it.
stop_postfix() {
    [[ -n $postfix_folder && -e $postfix_folder/spool/pid/master.pid ]] || return 0
    local master deadline=$(($(now_ms) + 20000))
    master=$(tr -d ' ' <"$postfix_folder/spool/pid/master.pid")
    postfix -c "$postfix_folder/etc" abort >>"$postfix_folder/start.log" 2>&1 || true
    while kill -0 "$master" 2>/dev/null && (($(now_ms) < deadline)); do sleep 0.05; done
    rm -rf "$postfix_folder"
    postfix_folder=""
}

# start_opendkim: signs with an RSA key of 2048 bits, as ours; sets `milter_port`.
start_opendkim() {
    milter_port=$(free_port)
    local folder="$bench_folder/opendkim"
    mkdir -p "$folder"
    openssl genrsa -traditional -out "$folder/key.pem" 2048 2>/dev/null
    cat >"$folder/opendkim.conf" <<TEXT
Mode s
Domain bench.test
Selector bench
KeyFile $folder/key.pem
Socket inet:$milter_port@127.0.0.1
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
OversignHeaders From
InternalHosts 127.0.0.1
RequireSafeKeys no
Syslog no
UserID opendkim
TEXT
    chown -R opendkim: "$folder"
    start_process opendkim "$bench_folder/opendkim.log" -- /usr/sbin/opendkim -f -x "$folder/opendkim.conf"
    local deadline=$(($(now_ms) + 10000))
    while port_is_free "$milter_port"; do
        is_running opendkim || fail_with_log opendkim "OpenDKIM ended while starting"
        (($(now_ms) < deadline)) || fail_with_log opendkim "OpenDKIM does not listen"
        sleep 0.1
    done
}

stop_opendkim() {
    stop_processes TERM 10 opendkim
    rm -rf "$bench_folder/opendkim"
}
