"""The libvirtd and virtlogd of one host, private to it: several hosts live on one machine, beside a system libvirtd.

As root the daemons see, in a mount namespace of their own, the host's directories where libvirt expects the system's.
Otherwise they run in session mode with the user's directories pointed into the host's. Either way they
outlive the agent: guests, their logs and libvirtd go on when an agent restarts, and the next agent finds them by
their socket. A daemon that died is started again by `ensure`; guests do not notice.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import quote

from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.files import SOCKETS, HostFiles
from hypervisor_agent.libvirt.machine import (
    SEARCH_PATH,
    can_make_namespaces,
    can_run_libvirtd,
    missing_programs,
    program,
)

START_SECONDS = 30.0
STOP_SECONDS = 10.0
QEMU_USER = "libvirt-qemu"  # Debian's libvirtd wants it to exist, even when guests run as root
# Bind pairs of directories, then run the command: everything private to this mount namespace.
IN_NAMESPACE = """
set -e
while [ "$1" != -- ]; do [ -d "$1" ] && mkdir -p "$2"; mount --bind "$1" "$2"; shift 2; done
shift
exec "$@"
"""
QEMU_CONF = """
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "logd"
max_core = 0
"""
LIBVIRTD_CONF = """
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{uuid}"
max_clients = 200
max_workers = 20
keepalive_interval = -1
log_outputs = "2:file:{log}"
"""
VIRTLOGD_CONF = "max_size = 1048576\nmax_backups = 1\n"


class Daemons:
    """See the module. Blocking: call it from a thread."""

    def __init__(self, host: str, files: HostFiles) -> None:
        self._host = host
        self._files = files
        self._private = can_make_namespaces()
        self._started: list[subprocess.Popen[bytes]] = []
        self._sockets = files.run / "libvirt"

    @property
    def uri(self) -> str:
        mode = "system" if self._private else "session"
        return f"qemu+unix:///{mode}?socket={quote(str(self._sockets / 'libvirt-sock'))}"

    def ensure(self) -> None:
        """Start what does not answer. Raises `OrderFailed` when a daemon does not come up."""
        self._reap()
        missing = missing_programs()
        if missing:
            hint = "Run tools/install-packages.sh, or use --driver libvirt-test."
            raise OrderFailed("driver_unavailable", f"Not installed: {', '.join(missing)}. {hint}")
        if not can_run_libvirtd():
            message = "Root may not make mount namespaces here, so there can be no libvirtd per host."
            hint = "Run as an ordinary user, give CAP_SYS_ADMIN, or set the driver's option uri to a running libvirtd."
            raise OrderFailed("driver_unavailable", f"{message} {hint}")
        self._prepare()
        for name, listens in (("virtlogd", "virtlogd-sock"), ("libvirtd", "libvirt-sock")):
            if not _answers(self._sockets / listens):
                self._start(name, self._sockets / listens)

    def stop(self) -> None:
        """Stop the daemons (guests that run would go on without a log: stop those first) and remove the sockets."""
        for name in ("libvirtd", "virtlogd"):
            pid = self._pid(name)
            if pid is not None:
                self._end(pid)
        self._reap()
        shutil.rmtree(self._files.run, ignore_errors=True)

    def _prepare(self) -> None:
        base = self._files.daemon
        for folder in ("etc/qemu", "lib", "cache", "log"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        self._sockets.mkdir(parents=True, exist_ok=True)
        for folder in SOCKETS:
            (self._files.run / folder).mkdir(exist_ok=True)
        self._files.run.chmod(0o700)
        host_uuid = uuid.uuid5(uuid.NAMESPACE_URL, f"{self._host}:{self._files.data.absolute()}")
        configuration = {
            "libvirtd.conf": LIBVIRTD_CONF.format(uuid=host_uuid, log=base / "log" / "libvirtd.log"),
            "virtlogd.conf": VIRTLOGD_CONF,
            "qemu.conf": QEMU_CONF if self._private else _without_ownership(QEMU_CONF),
        }
        for name, text in configuration.items():
            (base / "etc" / name).write_text(text)
        if not self._private:
            # libvirt builds socket names from these two; through links they stay short
            for name, folder in (("c", "config"), ("k", "cache")):
                (base / folder).mkdir(exist_ok=True)
                link = self._files.run / name
                if not link.is_symlink():
                    link.symlink_to((base / folder).absolute())
            (base / "config" / "libvirt").mkdir(exist_ok=True)
            (base / "config" / "libvirt" / "qemu.conf").write_text(configuration["qemu.conf"])

    def _start(self, name: str, listens: Path) -> None:
        base = self._files.daemon
        executable = program(name)
        assert executable is not None, name
        listens.unlink(missing_ok=True)
        command = [executable, "--config", str(base / "etc" / f"{name}.conf"), "--pid-file", str(self._pid_file(name))]
        python = _python()
        if python is not None:
            command = [python, "-I", "-S", str(Path(__file__).with_name("reaper.py")), *command]
        environment = {"PATH": SEARCH_PATH, "HOME": str(Path.home()), "LANG": "C.UTF-8"}
        if self._private:
            pairs = [argument for pair in self._binds() for argument in pair]
            unshare = ["unshare", "--mount", "--propagation", "private"]
            command = [*unshare, "sh", "-c", IN_NAMESPACE, "sh", *pairs, "--", *command]
        else:
            run = str(self._files.run)
            environment |= {
                "XDG_RUNTIME_DIR": run,
                "XDG_CONFIG_HOME": f"{run}/c",
                "XDG_CACHE_HOME": f"{run}/k",
            }
        with (base / "log" / "daemons.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        limit = time.monotonic() + START_SECONDS
        while not _answers(listens):
            if process.poll() is not None or time.monotonic() > limit:
                raise OrderFailed(
                    "driver_unavailable",
                    f"{name} of host {self._host} did not start; its log is {base / 'log'}.",
                    _tail(base / "log" / "daemons.log"),
                )
            time.sleep(0.02)

    def _binds(self) -> list[tuple[str, str]]:
        base = self._files.daemon.absolute()
        pairs = [
            (str(base / "etc"), "/etc/libvirt"),
            (str(base / "lib"), "/var/lib/libvirt"),
            (str(base / "cache"), "/var/cache/libvirt"),
            (str(base / "log"), "/var/log/libvirt"),
            (str(self._sockets), "/run/libvirt"),
        ]
        for name, line in (
            ("passwd", f"{QEMU_USER}:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"),
            ("group", f"{QEMU_USER}:x:64055:"),
        ):
            if not _known(name):
                copy = base / name
                copy.write_text(Path(f"/etc/{name}").read_text().rstrip("\n") + f"\n{line}\n")
                pairs.append((str(copy), f"/etc/{name}"))
        return pairs

    def _pid_file(self, name: str) -> Path:
        return self._files.run / f"{name}.pid"

    def _pid(self, name: str) -> int | None:
        """The daemon's pid, if that process still is this host's daemon and not a later one that got its number."""
        try:
            pid = int(self._pid_file(name).read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if str(self._files.daemon / "etc").encode() in arguments else None

    def _end(self, pid: int) -> None:
        for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
            limit = time.monotonic() + seconds
            while time.monotonic() < limit:
                self._reap()
                if not _lives(pid):
                    return
                time.sleep(0.02)

    def _reap(self) -> None:
        self._started = [process for process in self._started if process.poll() is None]


def _known(database: str) -> bool:
    try:
        if database == "passwd":
            pwd.getpwnam(QEMU_USER)
        else:
            grp.getgrnam(QEMU_USER)
    except KeyError:
        return False
    return True


def _without_ownership(configuration: str) -> str:
    """Session mode runs guests as the user that it is; it may not be told which."""
    return "\n".join(line for line in configuration.splitlines() if not line.startswith(("user", "group")))


def _python() -> str | None:
    """An interpreter that this user may run; ours may lie in somebody's home."""
    candidates = (sys.executable, program("python3"))
    return next((path for path in candidates if path and os.access(path, os.X_OK)), None)


def _lives(pid: int) -> bool:
    """A process that ended but was not waited for by its parent, perhaps an agent before this one, counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:] if path.exists() else ""
