"""Child processes of the supervisor: started for its life only, noticed when they die, ended in bounded time.

A child has a session of its own, so that Ctrl-C reaches only the supervisor, who stops things in order; if the
supervisor dies in any way the kernel kills the child at once. Its output goes to a log file; that it is ready it tells
on a pipe.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.errors import Stop

MAX_PAUSE_SECONDS = 10.0
STABLE_SECONDS = 30.0
GIVE_UP_AFTER = 3
SAY = "say "


@dataclass
class Child:
    """One role's process. `environment` is added to the supervisor's own."""

    role: str
    command: list[str]
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    ends_last: bool = False  # when the others have ended
    process: subprocess.Popen[bytes] | None = None
    ready_fd: int = -1  # readable when the child tells something
    life_fd: int = -1  # readable when the child ended
    was_ready: bool = False  # in any of its lives
    is_ready: bool = False  # in this life
    deaths: int = 0  # in a row, without having been ready or having run for a while
    restart_at: float = 0.0
    started: float = 0.0

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def start(self) -> None:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise Stop("the program setpriv is missing: install the package util-linux")
        read_end, write_end = os.pipe()
        environment = os.environ | self.environment | {"CHRONOVA_NOTIFY_FD": str(write_end)}
        self.started = time.monotonic()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(write_end, *self.pass_fds),
                start_new_session=True,
            )
        os.close(write_end)
        self.ready_fd = read_end
        self.is_ready = False
        self.restart_at = 0.0

    def took_notice(self) -> list[str] | None:
        """The lines that the child just told on its pipe to be said at the terminal; None when it closed it.

        Any other line tells that it is ready.
        """
        told = os.read(self.ready_fd, 4096).decode(errors="replace").splitlines()
        if not told:
            return None
        said = [line.removeprefix(SAY) for line in told if line.startswith(SAY)]
        if len(said) < len(told):
            self.was_ready = self.is_ready = True
        return said

    def ended(self) -> None:
        """Note the end of the process, and when to start it again."""
        assert self.process is not None
        self.process.wait()
        os.close(self.ready_fd)
        os.close(self.life_fd)
        self.ready_fd = self.life_fd = -1
        now = time.monotonic()
        self.deaths = 1 if self.is_ready or now - self.started > STABLE_SECONDS else self.deaths + 1
        pause = 0.0 if self.deaths == 1 else min(0.2 * 2 ** (self.deaths - 2), MAX_PAUSE_SECONDS)
        self.restart_at = now + pause

    @property
    def hopeless(self) -> bool:
        """It never became ready, over several starts: a person has to look."""
        return not self.was_ready and self.deaths >= GIVE_UP_AFTER

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def last_words(self) -> str:
        return last_line(self.log_file)


def end_all(children: list[Child], seconds: float) -> None:
    """Ask all to end, wait, kill what did not; then those that end last, in the same way."""
    _end([child for child in children if not child.ends_last], seconds)
    _end([child for child in children if child.ends_last], seconds)


def _end(children: list[Child], seconds: float) -> None:
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.signal(signal.SIGKILL)
            child.process.wait()


def last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return "nothing"
    return lines[-1] if lines else "nothing"
