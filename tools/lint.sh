#!/bin/sh
# Every check that runs no test: style, format, types, the direction of imports, generated documents, the lock. All of
# them run; the exit code says whether all passed.
set -u
cd "$(dirname "$0")/.."
failed=""

check() {
    name=$1
    shift
    echo "== $name"
    "$@" || failed="$failed; $name"
}

check "ruff check" .venv/bin/ruff check .
check "ruff format" .venv/bin/ruff format --check --quiet .
check "mypy" .venv/bin/mypy
check "import directions" .venv/bin/lint-imports
check "generated documents" .venv/bin/python -m domain.machine.render --check docs/machine
check "lock" .venv/bin/python tools/check_lock.py
check "shell scripts" sh -c 'for script in tools/*.sh; do sh -n "$script" || exit 1; done'

[ -z "$failed" ] || {
    echo "lint: failed:${failed#;}" >&2
    exit 1
}
