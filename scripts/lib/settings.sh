# shellcheck shell=bash
# The settings of the development stack: the caller's come first, the rest is made here and kept in the run folder.
#   secrets  passwords and keys, made once
#   ports    the ports of the last run, taken again while they are free
#   own      what the last run chose itself; .run/env exports it, so a shell that sourced that file and starts
#            scripts/run again must not be mistaken for a caller who chose these values
#   env      everything, for `source`

declare -A own_settings=()

# keep_line FILE NAME VALUE: one NAME=VALUE of a private file, replacing the former.
keep_line() {
    local file=$1 name=$2 value=$3
    (
        umask 077
        [[ ! -e $file ]] || sed "/^$name=/d" "$file" >"$file.new"
        printf '%s=%s\n' "$name" "$value" >>"$file.new"
        mv "$file.new" "$file"
    )
}

# kept_line FILE NAME: the value, or nothing.
kept_line() {
    [[ ! -e $1 ]] || sed -n "s/^$2=//p" "$1"
}

# secret NAME: a secret of 32 random bytes in hexadecimal, made at the first use.
secret() {
    local value
    value=$(kept_line "$run_folder/secrets" "$1")
    if [[ -z $value ]]; then
        value=$(random_hex 32)
        keep_line "$run_folder/secrets" "$1" "$value"
    fi
    printf '%s' "$value"
}

# port_for NAME [PREFERRED]: the preferred port, else that of the last run, else any: the first that is free.
port_for() {
    local port
    for port in ${2:-} $(kept_line "$run_folder/ports" "$1") "$(free_port)"; do
        if port_is_free "$port"; then
            keep_line "$run_folder/ports" "$1" "$port"
            printf '%s' "$port"
            return
        fi
    done
}

# forget_own_settings: removes from the environment what an earlier run chose and a sourced .run/env brought back;
# COMMUNE_RUN tells that one was sourced.
forget_own_settings() {
    local name value
    [[ ${COMMUNE_RUN:-} == "$run_folder" && -e $run_folder/own ]] || return 0
    while IFS='=' read -r name value; do
        if [[ ${!name:-} == "$value" ]]; then unset "$name"; fi
    done <"$run_folder/own"
}

# setting NAME DEFAULT: exports the caller's value, or DEFAULT when there is none.
setting() {
    if [[ -z ${!1:-} ]]; then
        printf -v "$1" '%s' "$2"
        own_settings[$1]=$2
    fi
    export "${1?}"
}

# own_setting NAME VALUE: exports a value that no caller chooses.
own_setting() {
    printf -v "$1" '%s' "$2"
    own_settings[$1]=$2
    export "${1?}"
}

# write_own: for forget_own_settings of the next run.
write_own() {
    local name
    (
        umask 077
        for name in "${!own_settings[@]}"; do printf '%s=%s\n' "$name" "${own_settings[$name]}"; done \
            >"$run_folder/own"
    )
}

# write_environment: .run/env, whole or not at all.
write_environment() {
    local name
    (
        umask 077
        {
            printf '# Written by scripts/run. To use the running stack from a shell: source %s\n' "$run_folder/env"
            compgen -e | grep -E '^(COMMUNE_|DATABASE_|REDIS_|RSPAMD_|PORT$|LOG_LEVEL$)' | sort \
                | while read -r name; do
                    printf "export %s='%s'\n" "$name" "${!name//\'/\'\\\'\'}"
                done
        } >"$run_folder/env.new"
        mv "$run_folder/env.new" "$run_folder/env"
    )
}
