# shellcheck shell=bash
# The program: one of the runner's, or a download that is what it should be.

# has_program: whether one is named at all.
has_program() { [ -n "${INPUT_BINARY:-}" ] || [ -n "${INPUT_DOWNLOAD_URL:-}" ]; }

# find_program: sets $program.
find_program() {
    if [ -n "${INPUT_BINARY:-}" ]; then
        # It is started in other directories too.
        case $INPUT_BINARY in
            /*) program=$INPUT_BINARY ;;
            */*) program=$PWD/$INPUT_BINARY ;;
            *) program=$(command -v "$INPUT_BINARY") || die "there is no program $INPUT_BINARY on the PATH" ;;
        esac
    else
        [ -n "${INPUT_DOWNLOAD_URL:-}" ] || die 'name a spellbook program as binary, or say where to get one: version, download-url and sha256'
        download
    fi
    "$program" --version >"$private/version" 2>&1 ||
        die "$program is no program that this runner can start: $(head -n 1 "$private/version")"
    printf 'using %s\n' "$(head -n 1 "$private/version" | tr -d '\r')"
}

download() {
    local url=$INPUT_DOWNLOAD_URL arch sum
    [[ ${INPUT_SHA256:-} =~ ^[0-9a-f]{64}$ ]] || die 'sha256 must be the 64 hexadecimal digits of the download, in lower case'
    arch=$(uname -m)
    case $arch in arm64) arch=aarch64 ;; esac
    url=${url//'{version}'/${INPUT_VERSION:-}}
    url=${url//'{os}'/$(uname -s | tr '[:upper:]' '[:lower:]')}
    url=${url//'{arch}'/$arch}
    [[ $url =~ ^https:// || $url =~ ^http://127\.0\.0\.1[:/] ]] || die 'download-url must be an https address'
    interruptibly curl -q --silent --show-error --fail --location --proto '=https,http' --proto-redir '=https' --retry 3 \
        --connect-timeout 10 --max-time 300 --output "$private/download" "$url" 2>"$private/curl" ||
        die "the program cannot be downloaded: $(cat "$private/curl")"
    sum=$(digest "$private/download")
    [ "$sum" = "$INPUT_SHA256" ] || die "what was downloaded has the SHA-256 $sum, not the one that was given; it is not used"
    program=$private/spellbook
    case $url in
        *.tar.gz | *.tgz) tar -xzf "$private/download" -O spellbook >"$program" || die 'the archive has no file spellbook' ;;
        *) mv "$private/download" "$program" ;;
    esac
    chmod 700 "$program"
}

# digest [FILE]: the SHA-256 of a file, or of standard input.
digest() {
    if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi | cut -d ' ' -f 1
}
