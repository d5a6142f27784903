"""`chronova up`: everything in one go. Composes the processes; `supervisor` keeps them alive.

    supervisor ── nats-server          the log (unless --nats)
              ├── control              api + conductor in one event loop
              ├── projector            the read models
              ├── archive              a copy of the log in files
              └── agent-<host>, ...    one process per host with libvirt, else one for all hosts ("agents")

The supervisor holds the listening socket, so that a client that connects while `control` is being restarted waits
instead of being refused. It writes the ready-file, and DATA/run/up.json for the other commands, when the API
answers and every host is registered, and again whenever a pid changes.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import data_dir, keys, preflight, rundir
from cli.children import Child
from cli.errors import Stop
from cli.supervisor import Supervisor, bound_log
from eventlog.nats_config import NatsUser, agents_user
from eventlog.nats_server import EmbeddedNats, NatsServerFailed, NatsServerMissing

BACKLOG = 1024
LEFTOVER_SECONDS = 20.0
MIN_FREE_BYTES = 32 << 20
CONTROL_USER = "control"
DRIVER_SECONDS = 60.0


@dataclass(frozen=True)
class UpOptions:
    data: Path
    listen: str
    hosts: int
    driver: str
    nats: tuple[str, ...]
    replicas: int | None
    database: str | None
    archive: Path | None
    ready_file: Path | None
    config: Path | None
    agent_per_host: bool
    nats_sync: str
    log_level: str
    private: bool


def up(options: UpOptions) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP. Raises Stop."""
    begun = time.monotonic()
    data_dir.must_be_ours(options.data)
    data_dir.must_be_usable(options.data)
    _must_have_room(options.data)
    _must_take_ready_file(options)
    if options.nats:
        preflight.nats_must_answer(options.nats)
        preflight.nats_must_replicate(options.nats, options.replicas)
    if options.database:
        preflight.database_must_answer(options.database)
    if options.archive is not None:
        preflight.archive_must_take(options.archive.absolute())
    # A directory of before is locked first, which says who else runs on it; a new one is made when the address is ours.
    listener = None if rundir.lock_path(options.data).exists() else _listen(options.listen)
    lock = rundir.DataLock.take(options.data)
    try:
        _end_leftovers(options.data)
        if not options.nats:
            _must_not_have_lost_its_log(options)
        listener = listener or _listen(options.listen)
        if options.private:
            data_dir.keep_private(options.data)
        if options.ready_file is not None:
            options.ready_file.unlink(missing_ok=True)
        _allow_many_files()
        logs = options.data / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        for log in logs.glob("*.log"):
            bound_log(log)
        driver = _best_driver() if options.driver == "auto" else options.driver
        groups = _agent_groups(options.hosts, driver, options.agent_per_host)
        nats = None if options.nats else _start_nats(options, groups, logs)
        children = _children(options, nats, listener, driver, groups, logs)
        supervisor = Supervisor(nats, children, logs, _say)
        supervisor.changed = _Notes(options, supervisor, listener, driver, begun).write
        supervisor.run()
        rundir.note_path(options.data).unlink(missing_ok=True)
        if options.ready_file is not None:
            options.ready_file.unlink(missing_ok=True)
        _say("stopped")
    finally:
        lock.release()


class _Notes:
    """The ready-file and the note for other commands, written anew when something changed."""

    def __init__(
        self, options: UpOptions, supervisor: Supervisor, listener: socket.socket, driver: str, begun: float
    ) -> None:
        self._options = options
        self._supervisor = supervisor
        self._base_url = base_url(listener)
        self._driver = driver
        self._begun = begun
        self._announced = False

    def write(self) -> None:
        """As far as the disk has room: the processes go on without, and the next change is another chance."""
        try:
            self._write()
        except OSError as error:
            _say(f"WARNING what runs can not be noted in {self._options.data}: {error.strerror}")

    def _write(self) -> None:
        nats = self._supervisor.nats
        pids = {"supervisor": os.getpid()}
        if nats is not None:
            pids["nats-server"] = nats.pid
        pids |= {child.role: child.pid for child in self._supervisor.children}
        content: dict[str, Any] = {
            "base_url": self._base_url,
            "clouds_yaml": str(self._options.data / "clouds.yaml"),
            "hosts": host_names(self._options.hosts),
            "pids": pids,
            "driver": self._driver,
            "viewer": f"{self._base_url}/ui/",
            "data": str(self._options.data),
        }
        note = content | {
            "nats": [nats.url] if nats is not None else list(self._options.nats),
            "database": self._options.database,
            "started": {role: rundir.started_at(pid) for role, pid in pids.items()},
        }
        rundir.write_json(rundir.note_path(self._options.data), note)
        archive = self._options.archive
        lasting = {
            "nats": list(self._options.nats),
            "database": self._options.database,
            "archive": None if archive is None else str(archive.absolute()),
        }
        rundir.write_json(rundir.last_log_path(self._options.data), lasting)
        if not all(child.was_ready for child in self._supervisor.children if child.role == "control"):
            return
        if self._options.ready_file is not None:
            rundir.write_json(self._options.ready_file.absolute(), content)
        if not self._announced:
            self._announced = True
            seconds = time.monotonic() - self._begun
            hosts = self._options.hosts
            _say(f"ready in {seconds:.1f} s: {hosts} host{'s' if hosts > 1 else ''}, driver {self._driver}")
            _say(f"APIs {self._base_url}   history viewer {self._base_url}/ui/")
            _say(f"try  OS_CLIENT_CONFIG_FILE={content['clouds_yaml']} openstack --os-cloud chronova server list")


def host_names(count: int) -> list[str]:
    return [f"host-{number}" for number in range(1, count + 1)]


def base_url(listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    if address in ("0.0.0.0", "::"):
        address = "127.0.0.1"
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def split_address(listen: str) -> tuple[str, int]:
    """`ADDR:PORT`, `[ADDR6]:PORT` or `:PORT`."""
    address, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise Stop(f"--listen has to be ADDRESS:PORT, not {listen!r}", 2)
    return address.strip("[]") or "127.0.0.1", int(port)


def _listen(listen: str) -> socket.socket:
    address, port = split_address(listen)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        raise Stop(f"{listen} can not be listened on: {error.strerror}; choose another with --listen") from error
    listener.listen(BACKLOG)
    return listener


def _best_driver() -> str:
    """Asked in a process of its own: looking may load libvirt, which the supervisor does not need."""
    program = "from hypervisor_agent.driver import best_driver; print(best_driver())"
    command = [sys.executable, "-P", "-c", program]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DRIVER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Stop(f"no driver could be chosen in {DRIVER_SECONDS:.0f} s; name one with --driver") from error
    if answer.returncode:
        raise Stop(
            f"no driver can be chosen: {(answer.stderr.strip().splitlines() or ['?'])[-1]}; name one with --driver"
        )
    return answer.stdout.strip()


def _agent_groups(hosts: int, driver: str, per_host: bool) -> dict[str, list[str]]:
    """The agent processes: {role: hosts}."""
    names = host_names(hosts)
    if per_host or driver == "libvirt" or hosts == 1:
        return {f"agent-{name}": [name] for name in names}
    return {"agents": names}


def _start_nats(options: UpOptions, groups: dict[str, list[str]], logs: Path) -> EmbeddedNats:
    users = [NatsUser(CONTROL_USER, keys.secret(options.data, f"nats-{CONTROL_USER}"))]
    for role, hosts in groups.items():
        users.append(agents_user(_nats_name(role, hosts), keys.secret(options.data, f"nats-{role}"), hosts))
    sync = None if options.nats_sync == "default" else options.nats_sync
    try:
        return EmbeddedNats.start(options.data, sync_interval=sync, log_file=logs / "nats-server.log", auth=users)
    except (NatsServerMissing, NatsServerFailed) as error:
        raise Stop(str(error)) from error


def _nats_name(role: str, hosts: list[str]) -> str:
    return hosts[0] if len(hosts) == 1 else role


def _children(
    options: UpOptions,
    nats: EmbeddedNats | None,
    listener: socket.socket,
    driver: str,
    groups: dict[str, list[str]],
    logs: Path,
) -> list[Child]:
    urls = [nats.url] if nats is not None else list(options.nats)
    chronova = [sys.executable, "-P", "-m", "cli.main"]
    common = ["--data", str(options.data), "--nats", ",".join(urls), "--log-level", options.log_level, "--debug"]
    if options.config is not None:
        common += ["--config", str(options.config)]
    if options.database is not None:
        common += ["--database", options.database]

    def access(user: str, key: str) -> dict[str, str]:
        if nats is None:
            return {}
        return {"CHRONOVA_NATS_USER": user, "CHRONOVA_NATS_PASSWORD": keys.secret(options.data, key)}

    replicas = [] if options.replicas is None else ["--replicas", str(options.replicas)]
    place = [] if options.archive is None else ["--archive", str(options.archive.absolute())]
    control = Child(
        "control",
        [
            *(*chronova, "control", *common, "--driver", driver, "--base-url", base_url(listener)),
            *("--listen-fd", str(listener.fileno()), "--expect-hosts", str(options.hosts)),
            *replicas,
        ],
        logs / "control.log",
        access(CONTROL_USER, f"nats-{CONTROL_USER}"),
        (listener.fileno(),),
    )
    # Folding commits into rows takes as long as accepting them, so it has a processor of its own.
    projector = Child(
        "projector",
        [*chronova, "projector", *common, *replicas],
        logs / "projector.log",
        access(CONTROL_USER, f"nats-{CONTROL_USER}"),
        ends_last=True,  # it writes what the others still did
    )
    archive = Child(
        "archive",
        [*chronova, "archive", *common, *replicas, *place],
        logs / "archive.log",
        access(CONTROL_USER, f"nats-{CONTROL_USER}"),
        ends_last=True,  # it takes what the others still said
    )
    # Hosts of the other drivers have sizes of their own; these are all this machine.
    share = ["--share", str(options.hosts)] if driver == "libvirt" else []
    agents = [
        Child(
            role,
            [
                *(*chronova, "agent", *common, "--driver", driver, *share),
                *(word for host in hosts for word in ("--host", host)),
            ],
            logs / f"{role}.log",
            access(_nats_name(role, hosts), f"nats-{role}"),
        )
        for role, hosts in groups.items()
    ]
    return [projector, control, *agents, archive]


def _must_have_room(data: Path) -> None:
    """A full disk is told here: nats-server and SQLite would only be slow to start, or fail in words of their own."""
    place = next((one for one in (data, *data.absolute().parents) if one.is_dir()), Path("/"))
    free = shutil.disk_usage(place).free
    if free < MIN_FREE_BYTES:
        raise Stop(
            f"the disk of {data} has {free >> 20} MB free and chronova needs {MIN_FREE_BYTES >> 20}: "
            "make room, or choose another directory with --data"
        )


def _must_not_have_lost_its_log(options: UpOptions) -> None:
    """What else is there speaks of a log that is gone: a new one would be an empty cloud beside guests that run."""
    data, archive = options.data, options.archive or options.data / "archive"
    if any(data.glob(f"nats/jetstream/*/streams/{data_dir.LOG_STREAM}")):
        return
    left = {"an archive of the log": any(archive.glob("0*")), "guests": any(data.glob("agents/*/guests/*/record.json"))}
    if any(left.values()):
        raise Stop(
            f"the log of {data} is gone, but there {'is' if left['an archive of the log'] else 'are'} "
            f"{' and '.join(what for what, there in left.items() if there)}: put {data / 'nats'} back, or "
            f"`chronova audit restore {archive} --data {data}`. To begin with an empty cloud, move {archive.name}/ and "
            "agents/ away, or take another directory"
        )


def _must_take_ready_file(options: UpOptions) -> None:
    """Its directory is there, or is the data directory, which is made. A misspelt one would be waited in for ever."""
    if options.ready_file is None:
        return
    folder = options.ready_file.expanduser().absolute().parent
    if not folder.is_dir() and folder != options.data:
        raise Stop(f"--ready-file {options.ready_file}: there is no directory {folder}; make it, or name another", 2)


def _end_leftovers(data: Path) -> None:
    """Wait for processes of a start whose supervisor was killed; they are ending already."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while pids := rundir.leftovers(data):
        if time.monotonic() > deadline:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.05)


def _allow_many_files() -> None:
    """Thousands of connections and simulated hosts need more than the usual 1024 open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, 1 << 20), hard))


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(f"chronova: {line}", flush=True)
