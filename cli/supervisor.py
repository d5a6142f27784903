"""Keeps the processes of one `chronova up` alive, and ends them in order.

It does no work of its own: it sleeps until a child dies, a child tells that it is ready, or a signal arrives. A child
that died is started again, at once the first time and with growing pauses while it keeps dying; one that never
became ready in several attempts ends the start with its last words. Every log file is kept below `MAX_LOG_BYTES`.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from cli.children import Child, end_all
from cli.errors import Stop
from eventlog.nats_server import EmbeddedNats, NatsServerFailed

MAX_LOG_BYTES = 16 << 20
TIDY_SECONDS = 60.0
END_SECONDS = 12.0
NATS_PAUSE_SECONDS = 1.0


class Supervisor:
    """Runs `children` beside an embedded NATS (or none). `changed` is called whenever pids or readiness change."""

    def __init__(
        self, nats: EmbeddedNats | None, children: list[Child], logs: Path, say: Callable[[str], None]
    ) -> None:
        self.nats = nats
        self.children = children
        self._logs = logs
        self._say = say
        self._poll = select.poll()
        self._by_fd: dict[int, Callable[[], None]] = {}
        self._stopping = 0
        self._nats_fd = -1
        self._nats_restart_at = 0.0
        self._tidy_at = time.monotonic() + TIDY_SECONDS
        self.changed: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Until SIGTERM, SIGINT or SIGHUP. Raises Stop if a child can not be brought up."""
        self._catch_signals()
        try:
            if self.nats is not None:
                self._watch_nats()
            for child in self.children:
                self._start(child)
            self.changed()
            while not self._stopping:
                self._wait()
        finally:
            self._end()

    def _wait(self) -> None:
        now = time.monotonic()
        due = [self._tidy_at, *(child.restart_at for child in self.children if child.restart_at)]
        if self._nats_restart_at:
            due.append(self._nats_restart_at)
        for descriptor, _ in self._poll.poll(max(0.0, min(due) - now) * 1000):
            handle = self._by_fd.get(descriptor)
            if handle is not None:
                handle()
        self._restart_due(time.monotonic())

    def _restart_due(self, now: float) -> None:
        if self._stopping:
            return
        if self._nats_restart_at and now >= self._nats_restart_at:
            self._restart_nats()
        for child in self.children:
            if child.restart_at and now >= child.restart_at:
                self._start(child)
                self.changed()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            for log in self._logs.glob("*.log"):
                bound_log(log)

    def _start(self, child: Child) -> None:
        child.start()
        child.life_fd = os.pidfd_open(child.pid)
        self._watch(child.life_fd, lambda: self._died(child))
        ready = child.ready_fd
        self._watch(ready, lambda: self._told(child, ready))

    def _told(self, child: Child, descriptor: int) -> None:
        was_ready = child.is_ready
        said = child.took_notice()
        if said is None:
            self._unwatch(descriptor)
        for line in said or ():
            self._say(line)
        if not said or child.is_ready != was_ready:
            self.changed()

    def _died(self, child: Child) -> None:
        self._unwatch(child.life_fd)
        if child.ready_fd in self._by_fd:
            self._unwatch(child.ready_fd)
        child.ended()
        if self._stopping:
            return
        assert child.process is not None
        what = f"{child.role} ended ({_how(child.process.returncode)})"
        if child.hopeless:
            raise Stop(f"{what} {child.deaths} times and was never ready; {child.log_file} says: {child.last_words()}")
        self._say(f"{what}; starting it again")

    def _watch_nats(self) -> None:
        assert self.nats is not None
        self._nats_fd = os.pidfd_open(self.nats.pid)
        self._watch(self._nats_fd, self._nats_died)

    def _nats_died(self) -> None:
        self._unwatch(self._nats_fd)
        os.close(self._nats_fd)
        if not self._stopping:
            self._say("nats-server ended; starting it again")
            self._nats_restart_at = time.monotonic()

    def _restart_nats(self) -> None:
        assert self.nats is not None
        self._nats_restart_at = 0.0
        url = self.nats.url
        try:
            self.nats.restart()
        except NatsServerFailed as error:
            self._say(f"{error}; trying again")
            self._nats_restart_at = time.monotonic() + NATS_PAUSE_SECONDS
            return
        if self.nats.url != url:
            raise Stop(f"nats-server could not get its address {url} back: start chronova again")
        self._watch_nats()
        self.changed()

    def _catch_signals(self) -> None:
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        os.set_blocking(read_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)

        def stop(*_: object) -> None:
            self._stopping += 1
            if self._stopping > 1:
                for child in self.children:
                    child.signal(signal.SIGKILL)

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which is what `nohup` asks for
            signal.signal(signal.SIGHUP, stop)
        self._watch(read_end, lambda: _drain(read_end))

    def _watch(self, descriptor: int, handle: Callable[[], None]) -> None:
        self._by_fd[descriptor] = handle
        self._poll.register(descriptor, select.POLLIN)

    def _unwatch(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._by_fd[descriptor]

    def _end(self) -> None:
        end_all(self.children, END_SECONDS)
        if self.nats is not None:
            self.nats.stop()


def bound_log(path: Path) -> None:
    """Move a log's content aside when there is much of it. Its writers append, so they go on in the emptied file."""
    try:
        if path.stat().st_size <= MAX_LOG_BYTES:
            return
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)
    except OSError:
        return  # there is none, or no room for it now


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 512):
            pass
    except BlockingIOError:
        return


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
