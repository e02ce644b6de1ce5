#!/usr/bin/env bash
# Writes requirements/{run,dev,tools,peers}.txt from pyproject.toml: every version and hash, for Python 3.11 to 3.13.
#
#   scripts/lock.sh              keeps locked versions where pyproject.toml still allows them
#   scripts/lock.sh --upgrade    takes the newest that it allows
#   scripts/lock.sh --check      fails when pyproject.toml's dependencies are not those that were locked
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
. "$ROOT/scripts/lib/python.sh"

# what the lock files answer to, in one line
dependencies_hash() {
    "$PYTHON" - "$ROOT/pyproject.toml" <<'PY'
import hashlib, json, sys, tomllib
with open(sys.argv[1], "rb") as file:
    data = tomllib.load(file)
wanted = [data["project"]["requires-python"], sorted(data["project"]["dependencies"]), data.get("dependency-groups")]
print(hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest())
PY
}

check() {
    local file
    for file in run dev; do
        grep -qx "# pyproject.toml: $(dependencies_hash)" "$ROOT/requirements/$file.txt" ||
            die "requirements/$file.txt is older than pyproject.toml: run 'make lock'"
    done
}

# $1 name of the file, then arguments of uv pip compile. The lists name no registry: that is each machine's own choice.
compile() {
    local name=$1 file=$ROOT/requirements/$1.txt new
    shift
    new=$CACHE/$name.txt
    if [ -f "$file" ]; then cp "$file" "$new"; else rm -f "$new"; fi
    run_uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@" -o "$new" >/dev/null
    if grep -nE '://|^--' "$new"; then die "$name.txt would name a registry"; fi
    {
        printf '# written by scripts/lock.sh\n'
        [ "$name" = tools ] || [ "$name" = peers ] || printf '# pyproject.toml: %s\n' "$(dependencies_hash)"
        sed '/^#/d' "$new"
    } >"$new.done"
    mv "$new.done" "$file"
    say "requirements/$name.txt: $(grep -c '==' "$file") packages"
}

main() {
    local upgrade=()
    if [ "${1:-}" = --check ]; then
        check
        return
    fi
    if [ "${1:-}" = --upgrade ]; then upgrade=(--upgrade); fi
    mkdir -p "$CACHE" "$ROOT/requirements"
    cd "$ROOT"
    [ -f requirements/tools.txt ] || "$PYTHON" -m venv "$CACHE/uv-venv"
    if [ -f requirements/tools.txt ]; then ensure_uv; else "$CACHE/uv-venv/bin/python" -m pip -qq install uv; fi
    compile run pyproject.toml "${upgrade[@]}"
    compile dev pyproject.toml --group dev -c requirements/run.txt "${upgrade[@]}"
    printf 'uv\n' >"$CACHE/tools.in"
    compile tools "$CACHE/tools.in" "${upgrade[@]}"
    printf 'websockify\n' >"$CACHE/peers.in"
    compile peers "$CACHE/peers.in" "${upgrade[@]}"
}

main "$@"
