# shellcheck shell=bash
# validate: every problem as an annotation where it is, and a table of them in the summary.

validate() {
    local root=${INPUT_PATH:-.}
    [ -d "$root" ] || die "path: there is no directory $root"
    if has_program; then
        find_program
        validate_here "$root"
    else
        [ -n "${INPUT_SERVER:-}" ] || die 'validate needs a binary, a download-url or a server'
        open_server
        # A server that lets everybody look checks files for everybody.
        if [ -n "${INPUT_TOKEN:-}" ] || can_identify; then sign_in; fi
        validate_there "$root"
    fi
    report_diagnostics "$root"
}

validate_here() {
    local code=0
    (cd "$1" && "$program" validate --json .) >"$private/found" 2>"$private/said" || code=$?
    case $code in
        0 | 65) jq -e '.diagnostics | type == "array"' <"$private/found" >/dev/null 2>&1 && return ;;
    esac
    die "the files could not be checked: $(tail -n 5 "$private/said" "$private/found")"
}

validate_there() {
    collect "$1"
    call POST validate "$private/files"
    [ "$status" = 200 ] || die "the server did not check the files: $(problem)"
    mv "$private/answer" "$private/found"
}

# collect ROOT: the files of daemons that git tracks, as the server takes them. Links are left out: what they
# lead to may be none of the repository's business.
collect() {
    local path
    local -a where=(':(literal)spellbook.yaml' ':(literal)spellbook.yml') named=() paths=()
    git -C "$1" ls-files -z >"$private/tracked" 2>"$private/said" ||
        die "git does not say which files of $1 it tracks; check it out in a step before: $(tail -n 1 "$private/said")"
    while IFS= read -r -d '' path; do
        case $path in
            daemon.yaml | daemon.yml) where+=('.') ;;
            */daemon.yaml | */daemon.yml) where+=(":(literal)${path%/*}/") ;;
        esac
    done <"$private/tracked"
    while IFS= read -r -d '' path; do
        if [ ! -f "$1/$path" ] || [ -L "$1/$path" ]; then continue; fi
        # What is no text is not sent.
        if [ -s "$1/$path" ] && ! LC_ALL=C grep -qI '' "$1/$path"; then continue; fi
        named+=(--rawfile "f${#paths[@]}" "$1/$path")
        paths+=("$path")
    done < <(git -C "$1" ls-files -z -- "${where[@]}")
    [ "${#paths[@]}" -gt 0 ] || die "there is no daemon in $1; daemons are in daemons/ID/daemon.yaml"
    [ "${#paths[@]}" -le 1000 ] || die "there are ${#paths[@]} files in daemons; more than 1000 are checked with a binary"
    jq -n "${named[@]}" '{files: [$ARGS.positional | to_entries[] | {path: .value, text: $ARGS.named["f\(.key)"]}]}' \
        --args "${paths[@]}" >"$private/files"
}

# report_diagnostics ROOT: says what was found, and ends the step.
report_diagnostics() {
    local prefix=${1#./} errors warnings
    prefix=${prefix%/}
    case $prefix in . | '') prefix= ;; *) prefix=$prefix/ ;; esac
    jq -r --arg prefix "$prefix" "$escapes"'
        .diagnostics[]
        | "::\(if .severity == "error" then "error" else "warning" end) file=\($prefix + .file | property)"
          + ",line=\(.line),endLine=\(.end_line)"
          + (if .line == .end_line then ",col=\(.column),endColumn=\(.end_column)" else "" end)
          + ",title=\(.code | property)::"
          + ([.message, (.expected // empty | "expected " + .), (.help // empty | "help: " + .)] | join("\n") | escaped)' \
        <"$private/found"
    errors=$(jq '[.diagnostics[] | select(.severity == "error")] | length' <"$private/found")
    warnings=$(jq '.diagnostics | length' <"$private/found")
    warnings=$((warnings - errors))
    {
        printf '## Spellbook: %s\n\n' "$([ "$errors" -eq 0 ] && echo 'the daemons are valid' || echo 'the daemons are not valid')"
        printf '%s error(s), %s warning(s)\n\n' "$errors" "$warnings"
        diagnostics_table
    } | summary
    if [ "$errors" -gt 0 ]; then
        output status invalid
        output conclusion failure
        printf '%s error(s), %s warning(s)\n' "$errors" "$warnings"
        exit 1
    fi
    output status valid
    output conclusion success
    printf 'valid, with %s warning(s)\n' "$warnings"
}

# A table of at most two hundred problems: a summary is 1 MiB at most.
diagnostics_table() {
    local place code message
    [ "$(jq '.diagnostics | length' <"$private/found")" -gt 0 ] || return 0
    printf '| where | code | what |\n| --- | --- | --- |\n'
    jq -r '.diagnostics[:200][] | ["\(.file):\(.line):\(.column)", .code, .message][] | gsub("[\\x00-\\x1f]"; " ")' <"$private/found" |
        while IFS= read -r place && IFS= read -r code && IFS= read -r message; do
            printf '| %s | %s | %s |\n' "$(cell "$place")" "$(cell "$code")" "$(cell "$message")"
        done
}
