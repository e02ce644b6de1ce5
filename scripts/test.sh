#!/usr/bin/env bash
# All checks. scripts/bootstrap.sh has made the machine ready.
#
#   scripts/test.sh all  [pytest arguments]    checks of form, then every test
#   scripts/test.sh fast [pytest arguments]    without the tests marked live, browser or slow
#   scripts/test.sh lint                       only the checks of form
#
# Each check runs whatever the one before said; one that fails fails the whole. pytest is the last to speak.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

failed=()

# $1 name, then the command
check() {
    local name=$1
    shift
    printf '==> %s\n' "$name"
    "$@" || failed+=("$name")
}

shell_scripts() {
    find "$ROOT/scripts" "$ROOT/.ci" -type f -print0 | xargs -0 grep -lE --null '^#!.*(ba)?sh$|^# shellcheck shell' |
        sort -z | xargs -0 shellcheck -x -P "SCRIPTDIR:$ROOT"
}

lint() {
    check "ruff format" ruff format --check --quiet .
    check "ruff" ruff check --quiet .
    check "mypy" mypy
    check "import rules" lint-imports --no-cache
    check "templates" djlint panel/templates --lint --quiet
    check "shell scripts" shell_scripts
    check "lock files" "$ROOT/scripts/lock.sh" --check
    if [ ${#failed[@]} -gt 0 ]; then
        printf '==> FAILED: %s\n' "$(printf '%s, ' "${failed[@]}" | sed 's/, $//')" >&2
        return 1
    fi
}

main() {
    local mode=${1:-} status=0
    shift || true
    cd "$ROOT"
    export PATH=$VENV/bin:$PATH PANEL_IMAGES_PATH=$IMAGES_PATH PANEL_DISKS_PATH=$DISKS_PATH
    lint || status=1
    case $mode in
    lint) return $status ;;
    fast) run_pytest -n 2 -m "not live and not browser and not slow" "$@" ;;
    all)
        run_pytest -n 2 -m "not live and not browser" "$@"
        # those that share this machine's hypervisors one after the other, beside the others: tests/together.py
        run_pytest -n 2 --dist loadgroup -m "live or browser" "$@"
        ;;
    *) die "usage: scripts/test.sh all|fast|lint [pytest arguments]" ;;
    esac
    return $status
}

# Runs pytest; that it found no test in one of the two parts is no failure.
run_pytest() {
    local code=0
    printf '==> pytest %s\n' "$*"
    pytest "$@" || code=$?
    [ $code = 0 ] || [ $code = 5 ] || status=1
}

main "$@"
