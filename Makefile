# The two commands: "make run" and "make test". "make help" tells the rest. ARGS goes to the program or to pytest:
#   make test ARGS="tests/api -k power"
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := run
unexport PYTHONDONTWRITEBYTECODE # where it is set, each start of a panel would compile all of it again: half a second of CPU
.PHONY: run test test-fast lint format lock bench soak fuzz doubles screenshots demo-image clean help

run: ## make this machine ready and serve the panel on port 1880
	@exec scripts/run.sh $(ARGS)

test: ## install what is missing and check everything
	@scripts/bootstrap.sh test
	@scripts/test.sh all $(ARGS)

test-fast: ## the checks and tests that need neither hypervisor nor browser, but the slow ones
	@scripts/bootstrap.sh dev
	@scripts/test.sh fast $(ARGS)

lint: ## format, lint, types, import rules, templates, shell scripts, lock files
	@scripts/bootstrap.sh dev
	@scripts/test.sh lint

format: ## write the code in the project's format
	@scripts/bootstrap.sh dev
	@.venv/bin/ruff check --quiet --fix-only .
	@.venv/bin/ruff format .

lock: ## write requirements/*.txt from pyproject.toml (ARGS=--upgrade: the newest versions)
	@scripts/lock.sh $(ARGS)

bench: ## measure, and write benchmarks/RESULTS.md (ARGS: which programs, such as lists)
	@scripts/bootstrap.sh bench
	@.venv/bin/python -m benchmarks $(ARGS)

soak: ## kill, flood, starve and confuse a panel for five minutes (ARGS: which, --minutes=30, --seed=N)
	@scripts/bootstrap.sh test
	@.venv/bin/python -m soak $(ARGS)

fuzz: ## throw mutated bytes at what parses foreign ones, a minute each (ARGS: which, --seconds=600)
	@scripts/bootstrap.sh dev
	@.venv/bin/python -m fuzz $(ARGS)

doubles: ## start doubles of vendors' servers on this machine; prints what to type into the host form
	@scripts/bootstrap.sh doubles
	@.venv/bin/python -m tests.doubles

screenshots: ## write docs/images from a running panel
	@scripts/bootstrap.sh test
	@.venv/bin/python scripts/screenshots.py $(ARGS)

demo-image: ## build the demo image anew, into .cache/image
	@OPENIDCS_REBUILD=1 scripts/build_demo_image.sh .cache/image .cache/demo-image

clean: ## remove what was made here: environment, caches; data and disks stay
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis .import_linter_cache dist
	find panel tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
