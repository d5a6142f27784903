"""Questions that need an answer now: `agent.<host>.ask`, request and reply on core NATS.

The question is JSON `{"kind", "server_id", "params"}`, the answer `{"ok": true, "result"}` or `{"ok": false, "fault"}`.
Nothing here changes a guest. `console_address` says whether a console can be opened now, `console_open` opens it (see
`consoles`). Who asks waits for a bounded time; an answer that comes later is lost. At most
`MAX_ASKS` questions are being answered at once, more are told to come back.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import msgspec
import structlog
from nats.aio.msg import Msg

from domain.orders import Fault
from hypervisor_agent.consoles import Consoles
from hypervisor_agent.driver import Driver, OrderFailed
from hypervisor_agent.link import Link
from hypervisor_agent.observer import Observer

MAX_ASKS = 64
ASK_SECONDS = 30.0
MAX_ANSWER_BYTES = 256 * 1024

log = structlog.get_logger("agent")


class Ask(msgspec.Struct, frozen=True):
    kind: Literal["console_output", "diagnostics", "console_address", "console_open", "reconcile"]
    server_id: str = ""
    params: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    ok: bool
    result: Any = None
    fault: Fault | None = None


_decode = msgspec.json.Decoder(Ask).decode
_encode = msgspec.json.Encoder().encode


class AskService:
    """Answers the questions to one host."""

    def __init__(self, host: str, driver: Driver, link: Link, observer: Observer, consoles: Consoles) -> None:
        self._host = host
        self._driver = driver
        self._consoles = consoles
        self._link = link
        self._observer = observer
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._link.subscribe(f"agent.{self._host}.ask", self._on_ask)

    async def _on_ask(self, message: Msg) -> None:
        # Answered aside, so that a slow hypervisor call does not hold up the next question.
        task = asyncio.ensure_future(self._answer(message))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, message: Msg) -> None:
        reply = await self._reply(message.data)
        await self._link.send(message.reply, _encode(reply))

    async def _reply(self, data: bytes) -> Reply:
        if len(self._answering) > MAX_ASKS:
            return _refused("busy", f"{self._host} is answering {MAX_ASKS} questions already: ask again in a moment.")
        try:
            ask = _decode(data)
        except msgspec.DecodeError as error:
            return _refused("bad_question", f"The question can not be read: {error}.")
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return Reply(ok=True, result=await self._result(ask))
        except OrderFailed as error:
            return Reply(ok=False, fault=error.fault)
        except TimeoutError:
            return _refused("timeout", f"The hypervisor of {self._host} did not answer within {ASK_SECONDS:g} s.")
        except Exception as error:  # the boundary to the hypervisor: a defect of a driver is an answer, with its trace
            log.exception("the driver failed unexpectedly", host=self._host, ask=ask.kind, server_id=ask.server_id)
            return _refused("driver_error", f"The driver failed at {ask.kind}: {error}", repr(error))

    async def _result(self, ask: Ask) -> Any:
        if ask.kind == "console_output":
            output = await self._driver.console_output(ask.server_id, ask.params.get("length"))
            return {"output": _newest(output)}
        if ask.kind == "diagnostics":
            return await self._driver.diagnostics(ask.server_id)
        if ask.kind == "console_address":
            await self._driver.console_address(ask.server_id, ask.params["kind"])
            return {}
        if ask.kind == "console_open":
            told = ask.params
            return await self._consoles.open(ask.server_id, told["kind"], told["token"], told["since"], told["until"])
        return {"guests": await self._observer.reconcile()}


def _newest(output: str) -> str:
    """The end of a console text that fits into an answer."""
    raw = output.encode()
    return output if len(raw) <= MAX_ANSWER_BYTES else raw[-MAX_ANSWER_BYTES:].decode(errors="replace")


def _refused(code: str, message: str, details: str = "") -> Reply:
    return Reply(ok=False, fault=Fault(code, message, details))
