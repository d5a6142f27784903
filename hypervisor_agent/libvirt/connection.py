"""The connection to one libvirt: calls in a bounded pool of threads, errors in words, lifecycle events.

libvirt's event loop runs in one thread of the process, shared by all connections; it must be registered before the
first connection is opened, which importing this module does not do but `Connection.open` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import libvirt

from hypervisor_agent.driver import OrderFailed, Unsupported

T = TypeVar("T")
WORKERS = 8
CALL_SECONDS = 300.0
KEEPALIVE_SECONDS = 5

_UNSUPPORTED = frozenset(
    {
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    }
)
_CODES = {
    libvirt.VIR_ERR_NO_DOMAIN: "no_guest",
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: "no_guest_agent",
    libvirt.VIR_ERR_OPERATION_INVALID: "wrong_power_state",
    libvirt.VIR_ERR_NO_MEMORY: "no_capacity",
}

_loop_lock = threading.Lock()
_loop_thread: threading.Thread | None = None


class Disconnected(OrderFailed):
    """libvirtd went away in the middle of a call. Whether the call had its effect is unknown: look, then repeat."""

    def __init__(self, details: str) -> None:
        message = "The hypervisor daemon of this host went away. It is being started again; try again shortly."
        super().__init__("hypervisor_unreachable", message, details, changed=True)


def _start_event_loop() -> None:
    global _loop_thread  # noqa: PLW0603 - libvirt has one event loop per process
    with _loop_lock:
        if _loop_thread is None:
            libvirt.virEventRegisterDefaultImpl()
            # Errors arrive as exceptions; without this libvirt prints each of them as well.
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            _loop_thread = threading.Thread(target=_run_event_loop, name="libvirt-events", daemon=True)
            _loop_thread.start()


def _run_event_loop() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


class Connection:
    """One connection, used from one asyncio loop.

    `on_event(server_id, event, detail)`, `on_device_removed(server_id)` and `on_close()` are called there.
    """

    def __init__(
        self,
        uri: str,
        on_event: Callable[[str, int, int], None],
        on_device_removed: Callable[[str], None],
        on_close: Callable[[], None],
    ) -> None:
        self.uri = uri
        self._on_event = on_event
        self._on_device_removed = on_device_removed
        self._on_close = on_close
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="libvirt")
        self._raw: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """Connect, or connect anew after `on_close`."""
        self._loop = asyncio.get_running_loop()
        self._raw = await self.run(self._open)

    def _open(self) -> Any:
        _start_event_loop()
        raw = libvirt.open(self.uri)
        raw.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._event, None)
        if not self.uri.startswith("test:"):
            raw.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._device_removed, None)
            raw.setKeepAlive(KEEPALIVE_SECONDS, 12)
            raw.registerCloseCallback(self._closed, None)
        return raw

    async def close(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            await asyncio.get_running_loop().run_in_executor(self._pool, _close_quietly, raw)
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def raw(self) -> Any:
        if self._raw is None:
            raise Disconnected("not connected")
        return self._raw

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that blocks. libvirt's errors come back as `OrderFailed`."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await future
        except libvirt.libvirtError as error:
            raise translate(error) from error
        except TimeoutError as error:
            raise OrderFailed(
                "hypervisor_stuck", f"The hypervisor gave no answer in {CALL_SECONDS:.0f} seconds. Look at its log."
            ) from error

    def _event(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: Any) -> None:
        self._hand_over(self._on_event, domain.UUIDString(), event, detail)

    def _device_removed(self, _connection: Any, domain: Any, _device: str, _opaque: Any) -> None:
        self._hand_over(self._on_device_removed, domain.UUIDString())

    def _closed(self, _connection: Any, _reason: int, _opaque: Any) -> None:
        self._hand_over(self._on_close)

    def _hand_over(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is not None and not self._loop.is_closed() and self._raw is not None:
            self._loop.call_soon_threadsafe(function, *arguments)


def translate(error: Any) -> OrderFailed:
    """What a libvirt error means to whoever waits for the order."""
    code, text = error.get_error_code(), error.get_error_message() or str(error)
    if code in _UNSUPPORTED:
        return Unsupported(f"The hypervisor does not support this: {text}")
    if error.get_error_domain() == libvirt.VIR_FROM_RPC or code in (libvirt.VIR_ERR_RPC, libvirt.VIR_ERR_NO_CONNECT):
        return Disconnected(text)
    return OrderFailed(_CODES.get(code, "hypervisor_error"), f"The hypervisor refused: {text}", f"libvirt error {code}")


def _close_quietly(raw: Any) -> None:
    with contextlib.suppress(libvirt.libvirtError):  # the daemon may be gone, and the connection with it
        raw.close()
