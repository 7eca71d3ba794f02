# Reads one JSON text without any program that Debian does not have at hand.
#   -v mode=paths            one line a value: its path, a tab, the value (strings without quotes)
#   -v mode=pretty [-v at=P] the value at path P (the whole by default), indented, its tokens untouched
{ rest = rest $0 "\n" }

END {
    next_token()
    value("", "")
    if (mode == "pretty") printf "\n"
    exit broken
}

# Moves to the next token; an unreadable text ends as status 1.
function next_token() {
    sub(/^[ \t\r\n]+/, "", rest)
    if (match(rest, /^"([^"\\]|\\.)*"/) || match(rest, /^[-+.0-9eE]+/) \
        || match(rest, /^(true|false|null)/) || match(rest, /^[][{}:,]/)) {
        token = substr(rest, 1, RLENGTH)
        rest = substr(rest, RLENGTH + 1)
    } else {
        token = ""
        if (rest != "") broken = 1
    }
}

function value(path, indent,    close_with, name, place) {
    if (path == at) indent = ""
    if (token != "{" && token != "[") {
        scalar(path)
        next_token()
        return
    }
    close_with = token == "{" ? "}" : "]"
    show(path, token)
    next_token()
    if (token == close_with) {
        show(path, token)
        next_token()
        return
    }
    for (place = 0; !broken; place++) {
        show(path, "\n" indent "  ")
        name = place
        if (close_with == "}") {
            show(path, token ": ")
            name = plain(token)
            next_token()
            if (token != ":") broken = 1
            next_token()
        }
        value(path == "" ? name : path "." name, indent "  ")
        if (token == close_with) break
        if (token != ",") broken = 1
        show(path, ",")
        next_token()
    }
    show(path, "\n" indent close_with)
    next_token()
}

function scalar(path) {
    if (mode == "paths") print path "\t" plain(token)
    show(path, token)
}

# Prints what belongs to the value at `at`.
function show(path, text) {
    if (mode == "pretty" && (at == "" || path == at || index(path, at ".") == 1)) printf "%s", text
}

# A string without quotes and without the escapes that matter for comparing; others are left as they are.
function plain(text) {
    if (text !~ /^"/) return text
    text = substr(text, 2, length(text) - 2)
    gsub(/\\\//, "/", text)
    gsub(/\\"/, "\"", text)
    return text
}
