"""The `chronova` command and the processes that it starts."""

import signal
import sys

_IS_COMMAND = sys.argv[0].endswith("/chronova") or sys.argv[0] == "-m"
if _IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Until a command has begun, Ctrl-C just ends the process: a traceback out of an import helps nobody.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
