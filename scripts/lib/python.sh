# shellcheck shell=bash
# The Python environment: uv in a small environment of its own, .venv from the lock files. Sourced after common.sh.

PYTHON=${OPENIDCS_PYTHON:-/usr/bin/python3} # the distribution's, not the first one in PATH
UV=$CACHE/uv-venv/bin/uv
readonly PYTHON UV

# Installs uv, in the locked version, where it is in nobody's way.
ensure_uv() {
    local stamp=$CACHE/uv-venv/.stamp wanted
    wanted=$(sha256sum <"$ROOT/requirements/tools.txt")
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || [ ! -x "$UV" ] || return 0
    say "installing uv"
    rm -rf "$CACHE/uv-venv"
    "$PYTHON" -m venv "$CACHE/uv-venv"
    "$CACHE/uv-venv/bin/python" -m pip -qq install --disable-pip-version-check --no-input --require-hashes \
        -r "$ROOT/requirements/tools.txt"
    printf '%s' "$wanted" >"$stamp"
}

# uv does not read pip's configuration: a mirror that was set for pip is handed on.
use_pip_mirror() {
    local mirror
    [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ] || return 0
    mirror=${PIP_INDEX_URL:-$("$CACHE/uv-venv/bin/python" -m pip config get global.index-url 2>/dev/null || true)}
    [ -z "$mirror" ] || export UV_DEFAULT_INDEX=$mirror
}

run_uv() {
    use_pip_mirror
    UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=$VENV "$UV" "$@"
}

# $1 run or dev: what .venv must have been made from
python_fingerprint() {
    {
        "$PYTHON" -c 'import sys; print(sys.version, sys.prefix)'
        cat "$ROOT/requirements/$1.txt" "$ROOT/pyproject.toml"
        printf '%s' "$ROOT"
    } | sha256sum | cut -d' ' -f1
}

# $1 run or dev: makes .venv what the lock file says. An environment for tests is good enough to run: dev.txt holds
# all of run.txt in the same versions.
ensure_python() {
    local profile=$1 stamp=$VENV/.openidcs wanted have
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$PYTHON is older than Python 3.11"
    wanted="$profile $(python_fingerprint "$profile")"
    have=$(cat "$stamp" 2>/dev/null || true)
    if [ -x "$VENV/bin/openidcs" ]; then
        [ "$have" != "$wanted" ] || return 0
        [ "$profile" != run ] || [ "$have" != "dev $(python_fingerprint dev)" ] || return 0
    fi
    ensure_uv
    if ! "$VENV/bin/python" -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null; then
        say "making the Python environment .venv"
        rm -rf "$VENV"
        run_uv venv -q --python "$PYTHON" "$VENV"
    fi
    say "installing the Python packages of requirements/$profile.txt (the first time up to a minute)"
    rm -f "$stamp"
    # compiled now: the process that compiles a package keeps the memory that it took, and that would be the panel
    run_uv pip sync -q --compile-bytecode --require-hashes "$ROOT/requirements/$profile.txt"
    run_uv pip install -q --no-deps -e "$ROOT"
    printf '%s\n' "$wanted" >"$stamp"
}

# What the benchmarks measure the panel against, in an environment of its own: .cache/peers.
ensure_peers() {
    local peers=$CACHE/peers wanted
    wanted=$(sha256sum <"$ROOT/requirements/peers.txt")
    [ "$(cat "$peers/.stamp" 2>/dev/null)" != "$wanted" ] || return 0
    ensure_uv
    say "installing what the benchmarks compare with"
    run_uv venv -q --clear --python "$PYTHON" "$peers"
    use_pip_mirror
    VIRTUAL_ENV=$peers "$UV" pip sync -q --require-hashes "$ROOT/requirements/peers.txt"
    printf '%s' "$wanted" >"$peers/.stamp"
}
