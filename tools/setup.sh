#!/bin/sh
# Install what is missing; a second run finds everything and takes a second. Asks nothing.
#
#   setup.sh [--test]      system packages (tools/install-packages.sh; with --test those that only tests need too),
#                          nats-server, .venv, the guest image
#
# PYTHON names the interpreter for .venv (3.11 or newer); without it the distribution's is taken, else python3 of PATH.
# Nothing outside the project changes but system packages and the user's cache (~/.cache/chronova).
set -eu
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/chronova

say() {
    echo "setup: $*"
}

# What needs the network is tried three times.
again() {
    for pause in 10 30; do
        "$@" && return
        say "that failed; once more in $pause s" >&2
        sleep "$pause"
    done
    "$@"
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# A distribution builds its Python for speed; one compiled by hand with a shared library takes a third more CPU per
# command (docs/benchmarks.md).
choose_python() {
    python=${PYTHON:-/usr/bin/python3}
    [ "${PYTHON:-}" ] || is_new_enough "$python" || python=python3
}

nats_server() {
    if "$python" -c 'from eventlog.nats_server import find_nats_server; find_nats_server()' 2>/dev/null; then
        return
    fi
    say "fetching nats-server into $cache/bin"
    again tools/get-nats-server.sh "$cache/bin"
}

# The environment is made anew when what it is made from has changed.
environment() {
    interpreter=$("$python" -c 'import sys; print(sys.base_prefix, sys.version_info[:2])') || exit 1
    stamp=$({ cat requirements.lock pyproject.toml; echo "$interpreter"; } | sha256sum | cut -d ' ' -f 1)
    if [ -x .venv/bin/chronova ] && [ "$(cat .venv/.made-from 2>/dev/null)" = "$stamp" ]; then
        return
    fi
    is_new_enough "$python" || {
        say "$python is older than 3.11: name a newer one, as in make setup PYTHON=python3.12" >&2
        exit 1
    }
    # One that was cut off while it was made has a python, and nothing to install with; one of another interpreter is
    # no use either.
    theirs=$(.venv/bin/python -c 'import sys; print(sys.base_prefix, sys.version_info[:2])' 2>/dev/null) || theirs=
    { [ "$theirs" = "$interpreter" ] && { command -v uv >/dev/null || .venv/bin/python -c 'import pip' 2>/dev/null; }; } || {
        say "making the virtual environment .venv"
        "$python" -m venv --clear .venv
    }
    say "installing the locked Python packages into .venv"
    if command -v uv >/dev/null; then
        export VIRTUAL_ENV="$PWD/.venv"
        again uv pip install --quiet --require-hashes -r requirements.lock
        again uv pip install --quiet --no-deps -e .
    else
        pip="$PWD/.venv/bin/python -m pip --disable-pip-version-check -qq --no-input --timeout 60 --retries 5"
        again $pip install --require-hashes -r requirements.lock
        again $pip install --no-deps -e . 2>.venv/install.log || {
            cat .venv/install.log >&2
            exit 1
        }
    fi
    echo "$stamp" >.venv/.made-from
}

guest_image() {
    command -v qemu-img >/dev/null || return 0
    .venv/bin/python - <<'PYTHON'
import sys

from hypervisor_agent.guest.build import cache_folder, tiny_image
from hypervisor_agent.guest.packages import BuildFailed

if not any((cache_folder() / "images").glob("*.qcow2")):
    print("setup: building the guest image (about ten seconds)", flush=True)
try:
    tiny_image()
except BuildFailed as error:
    sys.exit(f"setup: the guest image could not be built, so no real guest will boot: {error}")
PYTHON
}

tools/install-packages.sh "$@"
choose_python
nats_server
environment
# Its packages may be newer by now than apt's lists say. A machine without guests is one all the same.
guest_image || { tools/install-packages.sh --lists && guest_image; } || say "going on without a guest image" >&2
