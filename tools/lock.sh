#!/bin/sh
# Resolve pyproject.toml with all extras into requirements.lock: every package with its hashes, for any platform.
set -eu
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .venv/bin/uv)
[ -x "$uv" ] || {
    echo "lock: uv is missing: .venv/bin/python -m pip install uv" >&2
    exit 1
}
"$uv" pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url \
    --no-header "$@" pyproject.toml -o requirements.lock
