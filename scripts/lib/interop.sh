# shellcheck shell=bash
# Python for the tests: third-party clients and checkers, in an environment of their own.

# prepare_python: makes .build-test-venv with Tests/interop/requirements.txt and sets `python`; only when that
# file changed since the last time.
prepare_python() {
    local requirements="$root/Tests/interop/requirements.txt" folder="$root/.build-test-venv"
    local base=python3
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        require_packages python3-venv
        base=/usr/bin/python3
    fi
    python="$folder/bin/python"
    if ! cmp -s "$requirements" "$folder/installed.txt" || ! "$python" -c '' 2>/dev/null; then
        rm -rf "$folder"
        "$base" -m venv "$folder" || fail "the Python environment could not be made"
        "$python" -m pip install --quiet --disable-pip-version-check --no-input --requirement "$requirements" \
            || fail "pip could not install Tests/interop/requirements.txt"
        cp "$requirements" "$folder/installed.txt"
    fi
}
