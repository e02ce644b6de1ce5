# Flattens the YAML (and JSON, which is YAML) of a NoCloud seed into lines "path<TAB>value", e.g.
# "chpasswd.users.0.name<TAB>root". Block and flow collections, plain, quoted and literal scalars; no anchors, tags or
# merges. A value of several lines becomes several lines, whose path ends in "|".
{ sub(/\r$/, ""); line[++last] = $0 }

END {
    pos = 1
    skip()
    if (pos <= last) block(indent(line[pos]), "")
}

function indent(text) { match(text, /^ */); return RLENGTH }
function join(path, key) { return path == "" ? key : path "." key }
function trim(text) { sub(/^[ \t]+/, "", text); sub(/[ \t]+$/, "", text); return text }

# to the next line that says something
function skip() { while (pos <= last && line[pos] ~ /^[ \t]*(#.*|---.*|\.\.\.)?$/) pos++ }

function emit(path, text,    part, count, i) {
    if (index(text, "\n") == 0) { print path "\t" text; return }
    sub(/\n$/, "", text)
    count = split(text, part, "\n")
    for (i = 1; i <= count; i++) print path "|\t" part[i]
}

# the lines of one collection, whose entries are indented by `depth`
function block(depth, path,    text, index_, is_list, spaces) {
    text = substr(line[pos], depth + 1)
    if (text ~ /^[{[]/) { scalar(text, path); return }
    is_list = text ~ /^-([ \t]|$)/
    index_ = 0
    while (pos <= last && indent(line[pos]) == depth) {
        text = substr(line[pos], depth + 1)
        if ((text ~ /^-([ \t]|$)/) != is_list) return
        if (!is_list) { if (!entry(text, path, depth)) pos++; skip(); continue }
        match(text, /^-[ \t]*/)
        spaces = RLENGTH
        text = substr(text, spaces + 1)
        if (text ~ /^-[ \t]/ || (text !~ /^[{["'|>]/ && key_length(text))) {
            # a collection that starts on the dash's own line: the same, one step deeper
            line[pos] = sprintf("%" (depth + spaces) "s", "") text
            block(depth + spaces, join(path, index_++))
        } else node(text, join(path, index_++), depth, 0)
        skip()
    }
}

# length of "key:" with what surrounds it, 0 when the text is no entry of a map
function key_length(text) {
    if (match(text, /^"([^"\\]|\\.)*"[ \t]*:([ \t]+|$)/)) return RLENGTH
    if (match(text, /^'([^']|'')*'[ \t]*:([ \t]+|$)/)) return RLENGTH
    if (text ~ /^["'#]/) return 0
    if (!match(text, /:([ \t]+|$)/)) return 0
    return RSTART + RLENGTH - 1
}

function entry(text, path, depth,    length_, key) {
    length_ = key_length(text)
    if (!length_) return 0
    key = trim(substr(text, 1, length_))
    key = trim(substr(key, 1, length(key) - 1))
    if (key ~ /^["']/) { flow = key; at = 1; key = quoted() }
    node(substr(text, length_ + 1), join(path, key), depth, 1)
    return 1
}

# what follows "key:" or "-": a scalar here, or a collection or literal in the lines below
function node(text, path, depth, in_map,    inner) {
    if (text ~ /^[|>][0-9+-]*[ \t]*(#.*)?$/) { literal(path, depth); return }
    if (text !~ /^(#.*)?$/) { scalar(text, path); return }
    pos++
    skip()
    inner = pos <= last ? indent(line[pos]) : -1
    if (inner > depth || (in_map && inner == depth && substr(line[pos], depth + 1) ~ /^-([ \t]|$)/)) block(inner, path)
    else emit(path, "")
}

function literal(path, depth,    inner, text) {
    pos++
    inner = -1
    for (; pos <= last && (line[pos] ~ /^[ \t]*$/ || indent(line[pos]) > depth); pos++) {
        if (inner < 0 && line[pos] !~ /^[ \t]*$/) inner = indent(line[pos])
        text = text substr(line[pos], (inner < 0 ? 0 : inner) + 1) "\n"
    }
    sub(/\n+$/, "\n", text)
    emit(path, text)
}

function scalar(text, path,    i, before) {
    if (text !~ /^[{["']/) {
        sub(/[ \t]+#.*$/, "", text)
        text = trim(text)
        emit(path, (text == "~" || text == "null") ? "" : text)
        pos++
        return
    }
    flow = text
    for (i = pos + 1; i <= last; i++) flow = flow "\n" line[i]
    at = 1
    flow_node(path)
    before = substr(flow, 1, at - 1)
    pos += gsub(/\n/, "", before) + 1
}

function blanks() { while (substr(flow, at, 1) ~ /^[ \t\n]$/) at++ }

function flow_node(path,    char, key, index_, text) {
    blanks()
    char = substr(flow, at, 1)
    if (char == "\"" || char == "'") { emit(path, quoted()); return }
    if (char == "{" || char == "[") {
        at++
        for (index_ = 0; ; index_++) {
            blanks()
            if (substr(flow, at, 1) == ",") { at++; blanks() }
            if (substr(flow, at, 1) ~ /^[]}]?$/) { at++; return }
            if (char == "[") { flow_node(join(path, index_)); continue }
            if (substr(flow, at, 1) ~ /^["']$/) key = quoted()
            else { match(substr(flow, at), /^[^:,}]*/); key = trim(substr(flow, at, RLENGTH)); at += RLENGTH }
            blanks()
            if (substr(flow, at, 1) == ":") { at++; flow_node(join(path, key)) } else emit(join(path, key), "")
        }
    }
    match(substr(flow, at), /^[^],}\n]*/)
    text = trim(substr(flow, at, RLENGTH))
    at += RLENGTH
    emit(path, text == "null" ? "" : text)
}

# the quoted scalar that starts at `at`; moves behind it
function quoted(    mark, char, text) {
    mark = substr(flow, at++, 1)
    while (at <= length(flow)) {
        char = substr(flow, at++, 1)
        if (char == mark) {
            if (mark == "'" && substr(flow, at, 1) == "'") { at++; text = text char; continue }
            return text
        }
        if (char == "\\" && mark == "\"") text = text escaped()
        else if (char == "\n") { blanks(); text = trim(text) " " }
        else text = text char
    }
    return text
}

function escaped(    char, code) {
    char = substr(flow, at++, 1)
    if (char == "n") return "\n"
    if (char == "t") return "\t"
    if (char == "r") return "\r"
    if (char == "x") { code = hex(2); return utf8(code) }
    if (char != "u") return char
    code = hex(4)
    if (code >= 55296 && code < 56320 && substr(flow, at, 2) == "\\u") {
        at += 2
        code = 65536 + (code - 55296) * 1024 + (hex(4) - 56320)
    }
    return utf8(code)
}

function hex(digits,    code, i) {
    code = 0
    for (i = 0; i < digits; i++) code = code * 16 + index("0123456789abcdef", tolower(substr(flow, at + i, 1))) - 1
    at += digits
    return code
}

function utf8(code) {
    if (code < 128) return sprintf("%c", code)
    if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
    if (code < 65536) return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
    return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
