"""A nats-server of our own: find the program, write its configuration, start it, stop it.

The embedded server listens on the loopback interface only, keeps everything under `<data_dir>/nats`, and with
`sync_interval="always"` acknowledges a commit only after it is on disk. It ends with the process that started it:
`stop` asks it to and waits, and if the parent dies in any way the kernel sends it SIGTERM. After a kill -9 of the
server, `start` with the same directory brings back everything that was acknowledged.

Two servers never use one directory: the running server holds a lock on it, which ends with the server however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from eventlog.nats_config import NatsUser, agent_user, agents_user, server_config

__all__ = [
    "EmbeddedNats",
    "NatsServerFailed",
    "NatsServerMissing",
    "NatsUser",
    "agent_user",
    "agents_user",
    "find_nats_server",
]

MIN_VERSION = (2, 10)
START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02
PROJECT = Path(__file__).resolve().parent.parent


class NatsServerMissing(Exception):
    """No usable nats-server was found."""


class NatsServerFailed(Exception):
    """nats-server did not start or did not stop."""


def find_nats_server(extra_dirs: tuple[Path, ...] | list[Path] = ()) -> Path:
    """The nats-server to run: $NATS_SERVER, PATH, `extra_dirs`, the project's cache, the user's cache; 2.10 or newer.

    Raises NatsServerMissing with what was looked at and what to do.
    """
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = os.environ.get("NATS_SERVER")
    on_path = shutil.which("nats-server")
    places = [
        Path(named) if named else None,
        Path(on_path) if on_path else None,
        *(Path(folder) / "nats-server" for folder in extra_dirs),
        PROJECT / ".cache" / "bin" / "nats-server",
        cache_home / "chronova" / "bin" / "nats-server",
    ]
    rejected = []
    for place in places:
        if place is None or not os.access(place, os.X_OK) or place.is_dir():
            continue
        version = _version(place)
        if version >= MIN_VERSION:
            return place
        rejected.append(f"{place} is version {'.'.join(map(str, version)) or 'unknown'}")
    found = f" ({'; '.join(rejected)})" if rejected else ""
    raise NatsServerMissing(
        f"chronova needs nats-server 2.10 or newer{found}: run `tools/get-nats-server.sh "
        f"{cache_home / 'chronova' / 'bin'}`, put one on PATH, or name one in NATS_SERVER"
    )


def _version(program: Path) -> tuple[int, ...]:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in match.groups()) if match else ()


class EmbeddedNats:
    """A running nats-server. Made by `EmbeddedNats.start(data_dir)`; a context manager that stops it."""

    def __init__(
        self,
        data_dir: Path | str,
        *,
        port: int = 0,
        sync_interval: str | None = "always",
        log_file: Path | str | None = None,
        auth: list[NatsUser] | None = None,
        program: Path | None = None,
    ) -> None:
        self.directory = Path(data_dir) / "nats"
        self.log_file = Path(log_file) if log_file else self.directory / "nats-server.log"
        self.url = ""
        self._port = port
        self._sync_interval = sync_interval
        self._auth = auth
        self._program = program or find_nats_server()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        data_dir: Path | str,
        *,
        port: int = 0,
        sync_interval: str | None = "always",
        log_file: Path | str | None = None,
        auth: list[NatsUser] | None = None,
        program: Path | None = None,
    ) -> EmbeddedNats:
        """Start a server and wait until it answers (blocking, bounded). Port 0: the one of last time, or a free one.

        `sync_interval` None leaves the server's own interval (two minutes): fast, and up to that much is lost when the
        machine, not just the process, stops. Without `auth` every local user may connect.
        Raises NatsServerMissing, NatsServerFailed.
        """
        server = cls(data_dir, port=port, sync_interval=sync_interval, log_file=log_file, auth=auth, program=program)
        server.restart()
        return server

    def restart(self) -> None:
        """Start the process, which must not be running: after `stop`, or after it died."""
        if self.poll() is None and self._process is not None:
            raise NatsServerFailed(f"nats-server is running already (pid {self.pid})")
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self._lock()
        try:
            self._start_on_some_port(lock)
        finally:
            # From here on the server holds it, through the descriptor that it inherited.
            os.close(lock)

    def stop(self) -> None:
        """Ask the server to end and wait for it; kill it if it does not end in time."""
        process = self._process
        if process is None or self.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise NatsServerFailed("nats-server was not started")
        return self._process.pid

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def poll(self) -> int | None:
        """The exit code; None while it runs (or was never started)."""
        if self._process is None:
            return None
        code = self._process.poll()
        # The thread that waits for its end may know of it and not have told yet: the kernel is asked.
        return self._process.wait(STOP_SECONDS) if code is None and _has_ended(self._process.pid) else code

    def __enter__(self) -> EmbeddedNats:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _lock(self) -> int:
        """A descriptor that holds the directory's lock; waits for a server of before to finish."""
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    raise NatsServerFailed(f"another nats-server uses {self.directory}: stop it first") from None
                time.sleep(POLL_SECONDS)
            else:
                return descriptor

    def _start_on_some_port(self, lock: int) -> None:
        wanted = [self._port] if self._port else [self._remembered_port(), -1]
        for port in wanted:
            if port and self._try_start(port, lock):
                return
        raise NatsServerFailed(f"nats-server did not start; it wrote to {self.log_file}: {self._last_words()}")

    def _try_start(self, port: int, lock: int) -> bool:
        config = self.directory / "nats-server.conf"
        text = server_config(self.directory, port, self._sync_interval, self._auth)
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
        for stale in self.directory.glob("*.ports"):
            stale.unlink()
        self._process = _spawn_for_life([str(self._program), "-c", str(config)], self.log_file, lock)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            ports = next(self.directory.glob(f"*_{self._process.pid}.ports"), None)
            if ports is not None and self._read_ports(ports):
                (self.directory / "port").write_text(str(self.port))
                return True
            if self._process.poll() is not None:
                return False
            time.sleep(POLL_SECONDS)
        self.stop()
        return False

    def _read_ports(self, file: Path) -> bool:
        try:
            self.url = json.loads(file.read_text())["nats"][0]
        except ValueError:
            return False  # half written
        return True

    def _remembered_port(self) -> int:
        try:
            return int((self.directory / "port").read_text())
        except (OSError, ValueError):
            return 0

    def _last_words(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "nothing"


def _has_ended(child: int) -> bool:
    """Whether a child process ended, without taking its exit code from who waits for it."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True  # its exit code was taken


def _spawn_for_life(command: list[str], log_file: Path, inherited: int) -> subprocess.Popen[bytes]:
    """Start a program that the kernel ends when this process dies.

    The kernel watches the *thread* that started the program, so that is one that waits for the program's end and
    nothing else; and the program gets a session of its own, so that Ctrl-C in a terminal reaches only its parent, who
    stops things in order.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise NatsServerFailed("the program setpriv is missing: install the package util-linux")
    started: list[subprocess.Popen[bytes] | OSError] = []
    ready = threading.Event()

    def keep() -> None:
        try:
            with log_file.open("ab") as log:
                process = subprocess.Popen(
                    [setpriv, "--pdeathsig", "TERM", "--", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[inherited],
                    start_new_session=True,
                )
        except OSError as error:
            started.append(error)
            ready.set()
            return
        started.append(process)
        ready.set()
        process.wait()

    threading.Thread(target=keep, name="nats-server", daemon=True).start()
    ready.wait()
    outcome = started[0]
    if isinstance(outcome, OSError):
        raise NatsServerFailed(f"nats-server can not be started: {outcome}") from outcome
    return outcome
