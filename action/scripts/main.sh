#!/usr/bin/env bash
# The Action: reads what it was given, does what the mode says, and exits 0 only when all went well.
# Bash 3.2, curl and jq, as every runner has them. Secrets are never arguments of a program.
set -euo pipefail
umask 077

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=commands.sh
. "$scripts/commands.sh"
# shellcheck source-path=SCRIPTDIR source=server.sh
. "$scripts/server.sh"
# shellcheck source-path=SCRIPTDIR source=inputs.sh
. "$scripts/inputs.sh"
# shellcheck source-path=SCRIPTDIR source=install.sh
. "$scripts/install.sh"
# shellcheck source-path=SCRIPTDIR source=validate.sh
. "$scripts/validate.sh"
# shellcheck source-path=SCRIPTDIR source=run.sh
. "$scripts/run.sh"
# shellcheck source-path=SCRIPTDIR source=local.sh
. "$scripts/local.sh"

for program in curl jq; do
    command -v "$program" >/dev/null || die "this runner has no $program; install it in a step before"
done
private=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/spellbook.XXXXXX")
data=
trap 'rm -rf "$private" ${data:+"$data"}' EXIT

case ${INPUT_MODE:-} in
    validate) validate ;;
    run) run_there ;;
    local) run_here ;;
    *) die "mode must be validate, run or local, not \"${INPUT_MODE:-}\"" ;;
esac
