# shellcheck shell=bash
# The Swift compiler and the build.

# require_swift: puts `swift` on the path, also where an installer left it beside.
require_swift() {
    local folder
    if ! command -v swift >/dev/null; then
        for folder in /opt/swift/usr/bin "$HOME/.local/share/swiftly/bin" /usr/share/swift/usr/bin; do
            [[ ! -x $folder/swift ]] || PATH="$folder:$PATH"
        done
    fi
    command -v swift >/dev/null || fail "no Swift found. Install 6.2 or newer: https://www.swift.org/install/linux/"
}

# build_programs CONFIGURATION [OPTION…]: builds the four programs with SwiftPM's own progress, and sets `programs` to
# their folder.
build_programs() {
    local configuration=$1
    shift
    run_in_session swift build --package-path "$root" --configuration "$configuration" "$@" || fail "the build failed"
    programs=$(swift build --package-path "$root" --configuration "$configuration" --show-bin-path)
    require_programs
}

# require_programs: all four are there.
require_programs() {
    local program
    for program in commune commune-api commune-inbound commune-worker; do
        [[ -x $programs/$program ]] || fail "$programs has no program “$program”"
    done
}
