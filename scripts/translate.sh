#!/usr/bin/env bash
# Collects every message of the panel and brings the Chinese catalogue up to date; scripts/translate.py says how.
set -euo pipefail
cd "$(dirname "$0")/.."
exec .venv/bin/python scripts/translate.py
