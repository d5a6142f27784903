"""One role's process: composes the rooms by hand, tells that it is ready, and drains when it is told to stop.

`control` is api and conductor in one event loop; `api` and `conductor` are the same functions alone, for more than one
machine. `projector` and `archive` are always alone: their work is steady, and on another processor takes nobody's time.
SIGTERM, SIGINT, SIGHUP drain: no new requests, the open ones are finished, steps in hand are left to the next start,
which continues from the log. A role that can not go on ends with an exception, and its supervisor starts it again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cli import keys, process_name
from cli.errors import Stop
from cli.settings import Tables, build

NATS_SECONDS = 10.0
NATS_PAUSE_SECONDS = 0.2
REQUESTS_SECONDS = 5
KEEP_ALIVE_SECONDS = 75  # a client that waits for its server between two requests keeps its connection
BUILDING_SECONDS = 3600.0  # the read models of a log of many millions of events
HOSTS_SECONDS = 30.0
HOSTS_PAUSE_SECONDS = 0.02
HOSTS_A_LOOK = 50  # looking at all of more hosts takes so long that there is a longer pause before the next time
CHECKPOINT_SECONDS = 60.0
FIRST_CHECKPOINT_SECONDS = 20.0  # after the start: the start has other work
LAST_CHECKPOINT_SECONDS = 3.0
GC_OBJECTS = 20_000
NICE_OF_ARCHIVE = 10  # it takes seconds of commits at a time: whoever answers somebody comes first

# Starts parts, leaves what ends them on the stack, and returns what ends only when a part can not go on.
Start = Callable[[AsyncExitStack, asyncio.Event], Coroutine[Any, Any, list[asyncio.Future[Any]]]]


@dataclass(frozen=True)
class RoleOptions:
    """What every role is told. `listen` and `listen_fd` are the API's, `hosts`, `share` and `driver` the agents'."""

    data: Path
    nats: tuple[str, ...]
    nats_user: str | None
    nats_password: str | None
    database: str
    tables: Tables
    base_url: str = ""
    listen: tuple[str, int] = ("127.0.0.1", 0)
    listen_fd: int = -1
    expect_hosts: int = 0
    hosts: tuple[str, ...] = ()
    share: int = 1
    driver: str = "auto"
    archive: Path | None = None
    replicas: int | None = None


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a role on uvloop where there is one."""
    # Requests and commits make many short-lived objects and hardly a cycle: looking for cycles every 700 objects costs
    # one request in fifteen.
    gc.set_threshold(GC_OBJECTS, 50, 100)
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


def stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` asks to ignore it
            loop.add_signal_handler(number, stop.set)
    return stop


def tell(what: str) -> None:
    """Tell the supervisor, if there is one: that this is ready, or what it is to say to the person at the terminal."""
    descriptor = int(os.environ.get("CHRONOVA_NOTIFY_FD", "-1"))
    if descriptor >= 0:
        os.write(descriptor, what.encode() + b"\n")


def _say(line: str) -> None:
    from cli.children import SAY

    tell(f"{SAY}{line}")


async def agent(options: RoleOptions) -> None:
    """The agent of one or several hosts."""
    from hypervisor_agent.driver import OrderFailed
    from hypervisor_agent.journal import JournalFailed
    from hypervisor_agent.link import NatsAccess
    from hypervisor_agent.process import AgentSettings, serve

    stop = stop_on_signals()
    name = options.nats_user or options.hosts[0]
    settings = AgentSettings(
        hosts=options.hosts,
        driver=options.driver,
        data_dir=options.data / "agents",
        nats=NatsAccess(list(options.nats), name, options.nats_user, options.nats_password),
        driver_options=options.tables.driver,
        share=options.share,
    )
    try:
        await serve(settings, stop, ready=lambda: tell("ready"))
    except (OrderFailed, JournalFailed, ValueError) as error:
        raise Stop(str(error)) from error


async def control(options: RoleOptions, parts: frozenset[str]) -> None:
    """The named parts of the control plane (api, conductor) on one event loop, until a signal."""
    await _serve(lambda stack, stop: _start_parts(options, parts, stack, stop))


async def projector(options: RoleOptions) -> None:
    """The read models, kept equal to the log, until a signal."""
    await _serve(lambda stack, stop: _start_projector(options, stack, stop))


async def archive(options: RoleOptions) -> None:
    """The archive of the log, and who looks whether log and disk are well, until a signal."""
    from cli.watching import tell_of_archive, watch_disk, watch_log
    from eventlog.archiver import Archiver

    stop = stop_on_signals()
    os.nice(NICE_OF_ARCHIVE)
    directory = options.archive or options.data / "archive"
    async with AsyncExitStack() as stack:
        log = await open_log(options, stop)
        stack.push_async_callback(log.close)
        archiver = Archiver(log, directory, changed=partial(tell_of_archive, directory, _say))
        stack.push_async_callback(archiver.stop)
        for watching in (watch_log(log, directory, _say), watch_disk(options.data, _say)):
            stack.push_async_callback(_cancel, asyncio.create_task(watching, name="watching"))
        tell("ready")
        await _until(stop, [archiver.failed])


async def _until(stop: asyncio.Event, failures: list[asyncio.Future[Any]]) -> None:
    """Until a signal came. Raises what a part failed with."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        ended, _ = await asyncio.wait({stopping, *failures}, return_when=asyncio.FIRST_COMPLETED)
        for one in ended:
            one.result()
    finally:
        stopping.cancel()


async def _serve(start: Start) -> None:
    """Start, and serve until a signal, which may come while a start waits for a read model to be built."""
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(start(stack, stop), name="start")
        await _until(stop, [starting])
        if not starting.done():
            await _cancel(starting)
            return
        gc.freeze()  # what is there now stays: no collection needs to look at it
        await _until(stop, starting.result())


async def _start_projector(
    options: RoleOptions, stack: AsyncExitStack, stop: asyncio.Event
) -> list[asyncio.Future[Any]]:
    import structlog

    from projections import replay
    from projections.projector import Projector

    log = await open_log(options, stop)
    stack.push_async_callback(log.close)
    if reason := await replay.unfit(log, options.database):
        structlog.get_logger("projector").info("building the read models", reason=reason)
        if reason != replay.NONE_YET:
            _say(f"the read models are built from the log, which may last: {reason}")
    projector = await Projector.start(log, options.database)
    stack.push_async_callback(projector.stop)
    stack.push_async_callback(projector.catch_up)
    tell("ready")
    return [projector.failed]


async def _start_parts(
    options: RoleOptions, parts: frozenset[str], stack: AsyncExitStack, stop: asyncio.Event
) -> list[asyncio.Future[Any]]:
    """Start the parts; what ends them later is on `stack`. The futures end only when a part can not go on."""
    from cryptography.fernet import Fernet

    from api.services import ApiSettings
    from commands.duty import Duty
    from commands.handler import Commands
    from commands.hosts import HostWatch
    from commands.settings import CommandSettings
    from eventlog.checkpoint import load_or_create_key
    from projections.read_model import ReadModel

    failures: list[asyncio.Future[Any]] = []
    log = await open_log(options, stop)
    stack.push_async_callback(log.close)
    api_settings = build(ApiSettings, options.tables.api, "api", data_dir=options.data)
    fernet = Fernet(keys.secret(options.data, "secrets"))
    settings = build(
        CommandSettings,
        options.tables.commands,
        "commands",
        images_dir=api_settings.images_dir,
        volumes_dir=api_settings.volumes_dir,
        seal=lambda text: fernet.encrypt(text.encode()).decode(),
        unseal=lambda text: fernet.decrypt(text.encode()).decode(),
    )
    if parts == {"api", "conductor"}:  # all clients are this process's
        read = await ReadModel.open(options.database, nats=log.nc, timeout=BUILDING_SECONDS, sole_reader=True)
    else:
        read = await ReadModel.open(options.database, nats=log.nc)
    stack.push_async_callback(read.close)
    watch = HostWatch(log, settings.host_down_after)
    await watch.start()
    stack.push_async_callback(watch.stop)
    failures.append(watch.failed)

    async def visible(position: int) -> None:
        await read.shown(position, settings.visible_timeout)

    commands = Commands(log, visible=visible, settings=settings, hosts=watch)
    if "conductor" in parts:
        key = load_or_create_key(options.data / "keys")
        stack.push_async_callback(_last_checkpoint, commands, key)
        duty = Duty(log, commands, read, settings, watch, me=process_name.name(), is_gone=process_name.has_ended)
        stack.push_async_callback(duty.stop)
        failures.append(duty.failed)
        failures.append(asyncio.create_task(_checkpoints(commands, key), name="checkpoints"))
        stack.push_async_callback(_cancel, failures[-1])
    if "api" in parts:
        failures.append(await _start_api(options, stack, commands, read, log, api_settings))
    if options.expect_hosts:
        await _wait_for_hosts(read, watch, options.expect_hosts, stop)
    tell("ready")
    return failures


async def _start_api(
    options: RoleOptions, stack: AsyncExitStack, commands: Any, read: Any, log: Any, settings: Any
) -> asyncio.Future[Any]:
    from api.app import build_app
    from api.auth import Tokens, load_keys
    from api.bootstrap import IMAGE, bootstrap, uuid_id
    from api.services import Services
    from api.v1.stream import end_streams
    from cli.tiny import tiny_source

    tokens = Tokens(load_keys(options.data), read, load=commands.load, recheck=settings.token_recheck_seconds)
    services = Services(commands=commands, read=read, log=log, tokens=tokens, settings=settings)
    listener = _listener(options)
    address, port = listener.getsockname()[:2]
    tiny = settings.images_dir / uuid_id("image", IMAGE)
    await bootstrap(
        commands,
        read,
        options.data,
        base_url=options.base_url or f"http://{address}:{port}",
        tiny_image=await asyncio.to_thread(tiny_source, tiny, options.driver, options.data / "run"),
        region=settings.region,
        bridged=options.driver in ("auto", "libvirt") and os.geteuid() == 0,
    )

    server = _api_server(build_app(services))
    serving = asyncio.create_task(server.serve([listener]), name="api")

    async def shut_down() -> None:
        server.should_exit = True
        end_streams()
        await asyncio.wait({serving}, timeout=REQUESTS_SECONDS + 2)

    stack.push_async_callback(shut_down)
    while not server.started:
        if serving.done():
            serving.result()
            raise Stop("the API did not start")
        await asyncio.sleep(0.005)
    return serving


def _api_server(app: Any) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Signals are the role's, not the server's."""
            yield

    return Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="websockets-sansio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=REQUESTS_SECONDS,
        )
    )


def _listener(options: RoleOptions) -> socket.socket:
    if options.listen_fd >= 0:
        return socket.socket(fileno=options.listen_fd)
    family = socket.AF_INET6 if ":" in options.listen[0] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(options.listen)
    except OSError as error:
        raise Stop(f"{options.listen[0]}:{options.listen[1]} can not be listened on: {error.strerror}") from error
    return listener


async def open_log(options: RoleOptions, stop: asyncio.Event | None = None) -> Any:
    """The log, waited for as long as NATS may need to come up."""
    from eventlog.log import EventLog, LogUnavailable, StreamMismatch

    deadline = asyncio.get_running_loop().time() + NATS_SECONDS
    while True:
        try:
            log = await EventLog.open(
                list(options.nats),
                user=options.nats_user,
                password=options.nats_password,
                replicas=options.replicas,
            )
            log.disk = options.data / "nats" if (options.data / "nats" / "jetstream").is_dir() else None
            return log
        except StreamMismatch as error:
            raise Stop(str(error)) from error
        except LogUnavailable as error:
            if asyncio.get_running_loop().time() > deadline or (stop is not None and stop.is_set()):
                raise Stop(str(error)) from error
            await asyncio.sleep(NATS_PAUSE_SECONDS)


async def _wait_for_hosts(read: Any, watch: Any, count: int, stop: asyncio.Event) -> None:
    """Until the agents live and have told what they are. Bounded: the control plane is useful without them."""
    give_up = asyncio.get_running_loop().time() + HOSTS_SECONDS
    while not stop.is_set() and (len(watch.snapshot()) < count or len(await read.hosts()) < count):
        if asyncio.get_running_loop().time() > give_up:
            import structlog

            structlog.get_logger("control").warning("not every host has registered", expected=count)
            return
        await asyncio.sleep(HOSTS_PAUSE_SECONDS * (1 + count / HOSTS_A_LOOK))


async def _checkpoints(commands: Any, key: Any) -> None:
    """Sign what was appended since the last checkpoint, every minute."""
    pause = FIRST_CHECKPOINT_SECONDS
    while True:
        await asyncio.sleep(pause)
        await _checkpoint(commands, key)
        pause = CHECKPOINT_SECONDS


async def _last_checkpoint(commands: Any, key: Any) -> None:
    """Sign what there is at the end: what nothing signed could be cut off unnoticed."""
    try:
        async with asyncio.timeout(LAST_CHECKPOINT_SECONDS):
            await _checkpoint(commands, key)
    except TimeoutError:
        return  # the next start signs it


async def _checkpoint(commands: Any, key: Any) -> None:
    import structlog

    from domain.errors import Rejected
    from eventlog.checkpoint import read_checkpoint
    from eventlog.errors import LogError

    try:
        while (made := await commands.checkpoint(key)) is not None and read_checkpoint(made.commit).is_full:
            pass
    except (LogError, Rejected) as error:
        structlog.get_logger("control").warning("no checkpoint was made", error=str(error))


async def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
