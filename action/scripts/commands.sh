# shellcheck shell=bash
# The runner's language: workflow commands on standard output, and the files that it reads afterwards.
# All text of others passes through here, so that none of it is taken for a command.

random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# The escapes of the toolkit's command.ts: the text of a command …
escaped() {
    local text=$1
    text=${text//%/%25}
    text=${text//$'\r'/%0D}
    printf '%s' "${text//$'\n'/%0A}"
}

# … and the same for jq, with those of its properties.
# shellcheck disable=SC2034  # read by validate.sh
escapes='
def escaped: tostring | gsub("%"; "%25") | gsub("\r"; "%0D") | gsub("\n"; "%0A");
def property: escaped | gsub(":"; "%3A") | gsub(","; "%2C");
'

annotate() { printf '::%s title=Spellbook::%s\n' "$1" "$(escaped "$2")"; }

mask() { printf '::add-mask::%s\n' "$(escaped "$1")"; }

# Between these two the runner obeys nothing that is printed; only the random word ends it.
quiet_word=
quiet() {
    quiet_word=$(random)
    printf '::stop-commands::%s\n' "$quiet_word"
}
loud() {
    [ -z "$quiet_word" ] || printf '::%s::\n' "$quiet_word"
    quiet_word=
}

# output NAME VALUE: the value may hold any lines but the random one.
output() {
    local end
    end=$(random)
    printf '%s<<%s\n%s\n%s\n' "$1" "$end" "$2" "$end" >>"${GITHUB_OUTPUT:-/dev/null}"
}

# summary: adds standard input to the job's summary.
summary() { cat >>"${GITHUB_STEP_SUMMARY:-/dev/null}"; }

# fenced TEXT: a block of code that the text cannot leave.
fenced() {
    local fence='```'
    while [ "${1#*"$fence"}" != "$1" ]; do fence="$fence\`"; done
    printf '%s\n%s\n%s\n' "$fence" "$1" "$fence"
}

# cell TEXT: text as the cell of a table, and nothing but text.
cell() {
    printf '%s' "$1" | tr '\r\n' '  ' |
        sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/[][\\`*_{}()#!|~@$:]/\\&/g'
}

die() {
    loud
    annotate error "$1"
    exit 1
}
