#!/bin/sh
# All checks, then every test: tests/ or the paths given. Ends with what failed, what took longest, and what could
# not run here and why.
#
# Tests share the machine: two at a time (JOBS changes that), those of one group one after another.
set -u
cd "$(dirname "$0")/.."
status=0
tools/lint.sh || status=1
echo "== tests"
.venv/bin/pytest -n "${JOBS:-2}" --dist loadgroup --durations=25 -rsfE "$@" </dev/null || status=1
if [ $status -eq 0 ]; then
    echo "test: everything passed (what could not run here is listed above as SKIPPED, with its reason)"
else
    echo "test: FAILED, see above" >&2
fi
exit $status
