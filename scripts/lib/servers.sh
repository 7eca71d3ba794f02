# shellcheck shell=bash
# Where the private servers live and as whom they run: PostgreSQL refuses root.

server_user=""       # empty: the caller
server_privileges=() # options of setpriv that become that user

# choose_server_user: root lends its servers the user "postgres", which Debian's package makes.
choose_server_user() {
    ((EUID == 0)) || return 0
    local candidate
    for candidate in postgres nobody; do
        if getent passwd "$candidate" >/dev/null; then
            server_user=$candidate
            server_privileges=(--reuid "$candidate" --regid "$(id -g "$candidate")" --init-groups)
            return
        fi
    done
    fail "PostgreSQL refuses root, and there is no user “postgres” to run it as: start this as another user"
}

# as_server_user COMMAND…
as_server_user() {
    if [[ -n $server_user ]]; then setpriv "${server_privileges[@]}" "$@"; else "$@"; fi
}

# own_folder FOLDER: makes it, for the server user alone.
own_folder() {
    mkdir -p "$1"
    [[ -z $server_user ]] || chown "$server_user:" "$1"
    chmod 700 "$1"
}

# server_folder FOLDER: makes a folder that the server user can reach and sets `server_folder_path` to its true path.
# Where that user cannot enter the checkout, FOLDER becomes a link to a folder under /var/tmp.
server_folder() {
    local folder=$1
    if [[ -L $folder && ! -d $folder ]]; then
        say "  The data behind $folder is gone (cleaned from /var/tmp): starting with none."
        rm "$folder"
    fi
    [[ -d $folder ]] || own_folder "$folder"
    server_folder_path=$(realpath "$folder")
    if as_server_user test -w "$server_folder_path"; then return; fi

    rmdir "$folder" 2>/dev/null || fail "$folder belongs to somebody else. Run as that user, or remove it."
    server_folder_path=$(mktemp -d /var/tmp/commune-XXXXXXXX)
    own_folder "$server_folder_path"
    ln -s "$server_folder_path" "$folder"
}

# random_hex BYTES
random_hex() {
    od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'
}
