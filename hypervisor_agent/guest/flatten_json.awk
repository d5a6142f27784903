# JSON text to one line per scalar: /path/to/it <TAB> value. Line breaks inside strings stay written as \n.
{ text = text $0 "\n" }
END { value("") }
function skip(count) { text = substr(text, count + 1) }
function space() { if (match(text, /^[ \t\r\n]+/)) skip(RLENGTH) }
function next_char() { space(); return substr(text, 1, 1) }
function string(    out, c) {
    skip(1)
    while (1) {
        if (match(text, /^[^"\\]+/)) { out = out substr(text, 1, RLENGTH); skip(RLENGTH) }
        c = substr(text, 1, 1)
        if (c != "\\") { skip(1); return out }
        c = substr(text, 2, 1); skip(2)
        if (c == "n") c = "\\n"
        else if (c == "t") c = " "
        else if (c == "r" || c == "b" || c == "f") c = ""
        else if (c == "u") { c = "?"; skip(4) }
        out = out c
    }
}
function value(path,    c, key, n) {
    c = next_char()
    if (c == "{" || c == "[") {
        skip(1)
        key = next_char()
        if (key == "}" || key == "]") { skip(1); return }
        for (n = 0; ; n++) {
            key = n
            if (c == "{") { space(); key = string(); space(); skip(1) }
            value(path "/" key)
            space(); key = substr(text, 1, 1); skip(1)
            if (key != ",") return
        }
    }
    if (c == "\"") { print path "\t" string(); return }
    if (match(text, /^[^],} \t\r\n]+/)) { print path "\t" substr(text, 1, RLENGTH); skip(RLENGTH) } else exit 1
}
