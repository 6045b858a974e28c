# Finds the programs the tests call and installs the missing ones on Debian. Sourced by tests/run.

# need PROGRAM:PACKAGE...: 0 if all programs are there in the end. In --fast mode a missing one is only a skip:
# the tests that call it skip themselves.
need() {
    local missing=() packages=() pair status=0
    for pair; do
        have "${pair%%:*}" || { missing+=("$pair"); packages+=("${pair#*:}"); }
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    install_packages "${packages[@]}"
    for pair in "${missing[@]}"; do
        have "${pair%%:*}" && continue
        echo "missing program: ${pair%%:*} (package ${pair#*:})"
        if [ "$MODE" = fast ]; then echo "SKIPPED: what needs ${pair%%:*}"; else status=1; fi
    done
    return $status
}

have() { command -v "$1" >/dev/null; }

install_packages() {
    if [ "$(id -u)" != 0 ] || ! have apt-get; then return; fi
    echo "installing $*"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
