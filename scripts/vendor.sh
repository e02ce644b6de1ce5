#!/usr/bin/env bash
# Writes panel/static/vendor/ (committed: nobody needs Node at run or test time).
#
#   scripts/vendor.sh            fetch the pinned packages, verify them, write the files and VENDOR.json
#   scripts/vendor.sh --check    compare the files that are there with VENDOR.json (needs only python3)
#
# Names, versions, expected hashes and the list of icons: scripts/vendor/manifest.json.
# To take a new version: change it there, run `npm pack NAME@VERSION --json`, copy its "integrity", run this.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/panel/static/vendor

check() {
    python3 - "$out" <<'PY'
import hashlib, json, pathlib, sys

out = pathlib.Path(sys.argv[1])
want = {n: h for p in json.loads((out / "VENDOR.json").read_text()) for n, h in p["files"].items()}
have = {
    str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest()
    for f in out.rglob("*") if f.is_file() and f.name != "VENDOR.json"
}
bad = sorted(n for n in want.keys() | have.keys() if want.get(n) != have.get(n))
print("\n".join(f"differs from VENDOR.json: {n}" for n in bad) or f"{len(have)} vendored files match VENDOR.json")
sys.exit(bool(bad))
PY
}

if [ "${1:-}" = --check ]; then
    check
    exit
fi
for need in node npm tar python3; do
    command -v "$need" >/dev/null || { echo "vendor.sh needs $need (only to refresh the vendored files)" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
node "$root/scripts/vendor/build.mjs" "$work" "$out"
check
