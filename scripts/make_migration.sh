#!/usr/bin/env bash
# Writes a migration for the models as they are now: scripts/make_migration.sh NAME
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: scripts/make_migration.sh NAME}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf 'from panel.models.database import config\nORM = config("sqlite://%s/scratch.sqlite3", migrating=True)\n' "$work" >"$work/migration_config.py"
PYTHONPATH="$work:." .venv/bin/tortoise -c migration_config.ORM makemigrations -n "$name"
