# shellcheck shell=bash
# What the daemon is given: lines of name=value, or one JSON object.

# read_inputs: writes them as one JSON object to $private/inputs.
read_inputs() {
    local first
    first=$(printf '%s' "${INPUT_INPUTS:-}" | tr -d '[:space:]' | cut -c 1)
    if [ "$first" = '{' ]; then
        printf '%s' "$INPUT_INPUTS" | jq -es 'if length == 1 and (.[0] | type) == "object" then .[0] else error end' \
            >"$private/inputs" 2>/dev/null || die 'inputs begins with { and is not one JSON object'
        return
    fi
    printf '%s\n' "${INPUT_INPUTS:-}" | jq -Rne '
        reduce (inputs | rtrimstr("\r") | select(test("^\\s*$") | not)) as $line ({};
            ($line | index("=")) as $at
            | if $at == null or $at == 0 then error else .[$line[:$at] | gsub("^\\s+|\\s+$"; "")] = $line[$at + 1:] end)' \
        >"$private/inputs" 2>/dev/null || die 'inputs must be lines of name=value, or one JSON object'
}
