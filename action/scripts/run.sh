# shellcheck shell=bash
# run: starts a daemon on the server, shows its log as it is written, and ends as the run ends.

run=
stream=

run_there() {
    [ -n "${INPUT_SERVER:-}" ] || die 'run needs a server'
    [ -n "${INPUT_DAEMON:-}" ] || die 'run needs a daemon: owner/repository/id'
    for number in "${INPUT_TIMEOUT_MINUTES:=60}" "${INPUT_PATIENCE_SECONDS:=180}"; do
        [[ $number =~ ^[1-9][0-9]{0,5}$ ]] || die 'timeout-minutes and patience-seconds must be whole numbers'
    done
    read_inputs
    open_server
    sign_in
    trap 'cancelled 130' INT
    trap 'cancelled 143' TERM
    start
    follow
    settle
    conclude
}

# start: the same attempt of the same step starts one run, however often it asks. Two steps of one job may have the
# same name inside of an Action; their files for outputs are never the same.
start() {
    jq --arg daemon "$INPUT_DAEMON" '{daemon: $daemon, inputs: .}' <"$private/inputs" >"$private/order"
    idempotency=actions-$({
        printf '%s\n' "${GITHUB_REPOSITORY_ID:-}" "${GITHUB_RUN_ID:-}" "${GITHUB_RUN_ATTEMPT:-}" "${GITHUB_JOB:-}" \
            "${JOB_INDEX:-}" "${GITHUB_ACTION:-}" "${GITHUB_OUTPUT:-$(random)}"
        cat "$private/order"
    } | digest)
    call POST runs "$private/order"
    idempotency=
    case $status in
        200 | 201) ;;
        *) die "the run was not started: $(problem)" ;;
    esac
    run=$(jq -r .id <"$private/answer")
    [[ $run =~ ^run_[0-9a-f]{32}$ ]] || die 'the answer of the server is not understood'
    output run-id "$run"
    printf 'started %s of %s at %s\n' "$run" "$(tr -d '\r\n' <<<"$INPUT_DAEMON")" "$(jq -r .commit <"$private/answer")"
}

# Server-sent events (WHATWG HTML, 9.2) to one line each: `line ID TEXT` and `end STATUS`.
# shellcheck disable=SC2016  # it is jq's
events='
foreach (inputs | rtrimstr("\r")) as $line ({data: ""};
    if .whole then {data: ""} else . end
    | if $line == "" then .whole = true
      elif $line | startswith("event:") then .event = ($line[6:] | ltrimstr(" "))
      elif $line | startswith("id:") then .id = ($line[3:] | ltrimstr(" "))
      elif $line | startswith("data:") then .data += ($line[5:] | ltrimstr(" "))
      else . end;
    select(.whole and .data != "")
    | if .event == "line" and (.id // "" | test("^[0-9]{1,18}$"))
      then "line \(.id) " + (.data | fromjson | "\(.stage) | \(.text)" | gsub("[\r\n\u0000]"; " "))
      elif .event == "end" then "end " + (.data | fromjson | .status)
      else empty end)'

# follow: shows the log until the run has ended; sets $ended to its status. A stream that breaks is taken up after
# the line that was seen last.
follow() {
    local deadline=$((SECONDS + INPUT_TIMEOUT_MINUTES * 60)) heard=$SECONDS before wait=1
    ended='' last=0
    quiet
    while :; do
        before=$last
        listen logs "$((deadline - SECONDS))" "$last"
        [ -z "$ended" ] || break
        [ "$SECONDS" -lt "$deadline" ] || overdue
        # Why did it break off? A token may have run out, the run may be gone, the server may be away.
        retry_seconds=1 call GET "runs/$run"
        case $status in
            200) heard=$SECONDS wait=1 ;;
            000 | 408 | 429 | 5*)
                [ "$last" = "$before" ] || heard=$SECONDS wait=1
                [ $((SECONDS - heard)) -lt "$INPUT_PATIENCE_SECONDS" ] || lost
                ;;
            *) die "the run cannot be followed: $(problem)" ;;
        esac
        pause "$wait"
        [ "$wait" -ge 15 ] || wait=$((wait * 2))
    done
    loud
}

# listen PART SECONDS AFTER: reads a stream of the run to its end, or until it is silent for too long.
listen() {
    local line
    # The server says something every 15 seconds.
    [ -p "$private/stream" ] || mkfifo "$private/stream"
    exec 3< <(exec jq --unbuffered -nRr "$events" <"$private/stream" 2>/dev/null)
    curl -q --silent --no-buffer --fail --proto '=https,http' --connect-timeout 10 --max-time "$(($2 > 0 ? $2 : 1))" \
        --speed-limit 1 --speed-time 60 --config "$private/token" --header 'Accept: text/event-stream' \
        --header "Last-Event-ID: $3" "$server/api/v1/runs/$run/$1" >"$private/stream" 2>/dev/null &
    stream=$!
    while IFS= read -r line <&3; do
        case $line in
            line\ *)
                line=${line#line }
                last=${line%% *}
                printf '%s\n' "${line#* }"
                ;;
            end\ *) ended=${line#end } ;;
        esac
    done
    exec 3<&-
    kill "$stream" 2>/dev/null || true
    wait "$stream" 2>/dev/null || true
    stream=
}

# settle: what the run wants done may take a moment longer than the run; not for ever, as the server goes on alone.
settle() {
    local ended='' last=0
    listen events 120 0
}

overdue() {
    call POST "runs/$run/cancel"
    output status cancelled
    output conclusion timed_out
    die "the run took longer than $INPUT_TIMEOUT_MINUTES minutes and was cancelled"
}

lost() {
    output conclusion failure
    die "the server has been out of reach for $INPUT_PATIENCE_SECONDS seconds; $run may still go on there"
}

# cancelled CODE: the job is cancelled, and so is the run. The runner waits for seconds only.
cancelled() {
    trap '' INT TERM
    loud
    [ -z "$stream" ] || kill "$stream" 2>/dev/null || true
    if [ -n "$run" ]; then
        curl -q --silent --proto '=https,http' --connect-timeout 2 --max-time 5 --request POST --config "$private/token" \
            --output /dev/null "$server/api/v1/runs/$run/cancel" || true
        annotate notice "the job was cancelled, and so was $run"
    fi
    output status cancelled
    output conclusion cancelled
    exit "$1"
}

# conclude: the outputs, the summary, and the end.
conclude() {
    call GET "runs/$run"
    [ "$status" = 200 ] || die "the run has ended, and cannot be shown: $(problem)"
    mv "$private/answer" "$private/run"
    call GET "runs/$run/journal"
    [ "$status" = 200 ] || die "the run has ended, and what it made cannot be shown: $(problem)"
    # The last stage that made something, as the server itself says it; stages of a list have an index.
    jq -r '[.items[] | select(.path | contains("[") | not) | .output | values] | last // ""
        | if type == "string" then . else tojson end' <"$private/answer" >"$private/output"
    report "$(jq -r .run.status <"$private/run")" "$(jq -r '.run.message // ""' <"$private/run")" \
        "$(jq -r '.run.cost.nano_usd' <"$private/run")" \
        "$(jq -r '[.effects[] | select(.kind == "create-pull-request" and .status == "done") | .url | values] | first // ""' <"$private/run")"
}

# report STATUS MESSAGE NANO_USD PULL_REQUEST: the same for runs there and here.
report() {
    local conclusion cost text
    case $1 in
        succeeded) conclusion=success ;;
        skipped) conclusion=neutral ;;
        cancelled | timed_out) conclusion=$1 ;;
        *) conclusion=failure ;;
    esac
    cost=$(printf '%d.%09d' "$(($3 / 1000000000))" "$(($3 % 1000000000))" | sed -e 's/0*$//' -e 's/\.$/.00/')
    text=
    if [ "$(wc -c <"$private/output")" -le 262144 ]; then
        text=$(cat "$private/output")
    else
        annotate warning 'what the run made is longer than 256 KiB, and is left out here'
    fi
    output status "$1"
    output conclusion "$conclusion"
    output cost-usd "$cost"
    output pull-request-url "$4"
    output output "$text"
    {
        printf '## Spellbook: %s\n\n' "${1//_/ }"
        [ -z "$2" ] || printf '%s\n\n' "$(cell "$2")"
        printf '| run | daemon | cost |\n| --- | --- | --- |\n| %s | %s | $%s |\n\n' \
            "$(cell "$run")" "$(cell "$INPUT_DAEMON")" "$cost"
        [[ ! $4 =~ ^https?://[A-Za-z0-9./_:-]+$ ]] || printf 'Pull request: <%s>\n\n' "$4"
        [ -z "$text" ] || fenced "$(cut -c 1-2000 <<<"$text" | head -n 200)"
    } | summary
    case $conclusion in
        success) printf 'succeeded, cost $%s\n' "$cost" ;;
        neutral) annotate notice "the run was skipped${2:+: $2}" ;;
        *) die "the run ${1//_/ }${2:+: $2}" ;;
    esac
}
