# shellcheck shell=bash
# local: runs a daemon of this repository in this runner, in its jail, with no server.

run_here() {
    local code=0 child
    [ -n "${INPUT_DAEMON:-}" ] || die 'local needs a daemon: the directory of one'
    [ -d "$INPUT_DAEMON" ] || die "daemon: there is no directory $INPUT_DAEMON"
    find_program
    read_inputs
    write_inputs
    # Jails may belong to another user, who must be able to pass through to their workspaces.
    data=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/spellbook.XXXXXX")
    chmod 711 "$data"
    local -a given=(run --report "$private/report" --data "$data")
    while IFS= read -r name; do given+=(--input "$name=@$private/given/$name"); done <"$private/names"
    local directory=$INPUT_DAEMON
    case $directory in /* | ./*) ;; *) directory=./$directory ;; esac
    quiet
    (umask 022 && exec "$program" "${given[@]}" "$directory") &
    child=$!
    trap 'stopped "$child" INT 130' INT
    trap 'stopped "$child" TERM 143' TERM
    wait "$child" || code=$?
    loud
    trap - INT TERM
    [ -s "$private/report" ] || die "the daemon could not be run (exit $code); what is said above tells why"
    run=$(jq -r .run <"$private/report")
    output run-id "$run"
    jq -r '.output // "" | if type == "string" then . else tojson end' <"$private/report" >"$private/output"
    report "$(jq -r .status <"$private/report")" "$(jq -r '.message // ""' <"$private/report")" \
        "$(jq -r '.execution.total_cost.nano_usd // 0' <"$private/report")" ''
}

# write_inputs: each value as a file of its own; arguments are seen by every process.
write_inputs() {
    jq -r 'keys_unsorted[]' <"$private/inputs" >"$private/names"
    mkdir "$private/given"
    while IFS= read -r name; do
        [[ $name =~ ^[A-Za-z0-9_-]{1,100}$ ]] || die "inputs: \"$name\" is no name of an input"
        jq -j --arg name "$name" '.[$name] | if type == "string" then . else tojson end' <"$private/inputs" >"$private/given/$name"
    done <"$private/names"
}

stopped() {
    trap '' INT TERM
    loud
    kill -"$2" "$1" 2>/dev/null || true
    output status cancelled
    output conclusion cancelled
    exit "$3"
}
