"""The parent of a libvirtd and of every guest that it starts: run as a program of its own, `reaper.py COMMAND...`.

QEMU detaches itself, and libvirt takes a guest for running until its process is waited for. That is init's work, but
in a container init often does it late or never, and a stopped guest would seem to run for seconds. So this small
process makes itself the parent of orphans below it, waits for whatever ends, and ends when nothing is left. It needs
the standard library only, starts no threads, and its death harms nobody: init inherits the rest.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The agent's terminal and whoever stops the daemon mean the daemon, not its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execv(sys.argv[1], sys.argv[1:])
    status = 0
    while True:
        try:
            pid, code = os.wait()
        except ChildProcessError:
            return os.waitstatus_to_exitcode(status) & 0xFF
        if pid == child:
            status = code


if __name__ == "__main__":
    sys.exit(main())
