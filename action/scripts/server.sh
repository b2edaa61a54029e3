# shellcheck shell=bash
# The server: signing in with the job's identity, and calls. Credentials are in files that only this job's
# user reads; the arguments of curl are seen by every process of the runner.

# open_server: checks the address before anything is sent there.
open_server() {
    server=${INPUT_SERVER%/}
    local secure='^https://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._/-]*)?$'
    local here='^http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?$'
    [[ $server =~ $secure || $server =~ $here ]] ||
        die "server must be an https address, such as https://spellbook.example.com, not \"$INPUT_SERVER\""
    : >"$private/token"
}

# sign_in: an API token, the one that was given or one for the job's identity.
sign_in() {
    local token=${INPUT_TOKEN:-}
    if [ -z "$token" ]; then
        can_identify || die "the job has no identity to show: give it \`permissions: id-token: write\` (which pull requests from forks cannot have), or an API token as \`token\`"
        exchange
        token=$(jq -r .secret <"$private/answer")
    fi
    case $token in
        *[!A-Za-z0-9_-]*) die 'the API token is none: it begins with sb_ and has no spaces' ;;
    esac
    aloud mask "$token"
    printf 'header = "Authorization: Bearer %s"\n' "$token" >"$private/token"
}

can_identify() { [ -n "${ACTIONS_ID_TOKEN_REQUEST_URL:-}" ] && [ -n "${ACTIONS_ID_TOKEN_REQUEST_TOKEN:-}" ]; }

# exchange: the job's identity for a token. An identity is good once: each try takes a new one.
exchange() {
    local try
    : >"$private/token"
    for try in 1 2 3; do
        identify
        jq '{token: .value}' <"$private/identity" >"$private/body"
        send POST sign-in/actions "$private/body"
        case $status in
            201) return ;;
            000 | 429 | 5* | 401) [ "$try" -eq 3 ] || pause "$(retry_after)" ;;
            *) break ;;
        esac
        [ "$(problem .code)" != identity_audience ] || break
    done
    die "the server did not sign this job in: $(problem)"
}

# identify: asks GitHub who this job is, for our server.
identify() {
    local audience join='?'
    audience=$(jq -rn --arg text "${INPUT_AUDIENCE:-$server}" '$text | @uri')
    case $ACTIONS_ID_TOKEN_REQUEST_URL in *\?*) join='&' ;; esac
    printf 'header = "Authorization: Bearer %s"\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" >"$private/github"
    interruptibly curl -q --silent --show-error --fail --proto '=https,http' --connect-timeout 10 --max-time 30 \
        --retry 3 --config "$private/github" --output "$private/identity" \
        "$ACTIONS_ID_TOKEN_REQUEST_URL${join}audience=$audience" 2>"$private/curl" ||
        die "GitHub did not say who this job is: $(cat "$private/curl")"
    aloud mask "$(jq -r .value <"$private/identity")"
}

# call METHOD PATH [BODY FILE]: the same as send; a token that ran out is replaced.
call() {
    send "$@"
    if [ "$status" = 401 ] && [ -z "${INPUT_TOKEN:-}" ] && can_identify; then
        sign_in
        send "$@"
    fi
}

# send METHOD PATH [BODY FILE]: sets $status, 000 when there is no answer, which is then in $private/answer.
# A call that may be made again is, after `Retry-After`.
send() {
    local method=$1 path=$2
    local -a more=()
    [ -z "${3:-}" ] || more=(--header 'Content-Type: application/json' --data-binary "@$3")
    [ -z "${idempotency:-}" ] || more+=(--header "Idempotency-Key: $idempotency")
    # Signing in again takes another identity, never the same one.
    [ "$path" = sign-in/actions ] || more+=(--retry 3 --retry-connrefused --retry-max-time "${retry_seconds:-30}")
    : >"$private/answer"
    : >"$private/heads"
    interruptibly curl -q --silent --show-error --proto '=https,http' --connect-timeout 10 --max-time 60 \
        --request "$method" --config "$private/token" ${more[@]+"${more[@]}"} --dump-header "$private/heads" \
        --output "$private/answer" --write-out '%{http_code}' "$server/api/v1/$path" >"$private/status" 2>"$private/curl" || true
    status=$(cat "$private/status")
    status=${status:-000}
}

# problem [FIELD]: what the server said was wrong, for people.
problem() {
    local text
    text=$(jq -r "${1:-\"\\(.detail) (\\(.code))\"} // empty" <"$private/answer" 2>/dev/null) || true
    if [ -n "$text" ] || [ -n "${1:-}" ]; then printf '%s' "$text"; return; fi
    [ "$status" = 000 ] && cat "$private/curl" || printf 'it answered %s' "$status"
}

retry_after() {
    local seconds
    seconds=$(tr -d '\r' <"$private/heads" | sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,4\}\)$/\1/p' | tail -n 1)
    seconds=${seconds:-1}
    [ "$seconds" -le 60 ] || seconds=60
    printf '%s' "$seconds"
}

# interruptibly PROGRAM …: bash runs a trap only between programs; it does so at once while it waits for one in
# the background.
interruptibly() {
    "$@" &
    wait $!
}

pause() { interruptibly sleep "$1"; }

# aloud COMMAND …: says something to the runner in the middle of a log.
aloud() {
    local was=$quiet_word
    loud
    "$@"
    [ -z "$was" ] || quiet
}
