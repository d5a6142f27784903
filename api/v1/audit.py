"""Tamper evidence: the newest checkpoint, a check of the whole chain, and the log as a file.

Checkpoints can be read by everybody, to be kept elsewhere; checking and exporting read the whole log and are for
administrators, one check at a time per process. An export is the archive that `chronova audit import` takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.http import Json, caller, services
from commands.audit import MachineAudit
from domain.errors import Conflict, Forbidden
from eventlog.archive import FORMAT, Entry, Header, Trailer
from eventlog.checkpoint import ID, KIND, load_public_key, read_checkpoint
from eventlog.envelope import Recorded
from eventlog.log import EventLog
from eventlog.verify import ChainVerifier, Finding

if TYPE_CHECKING:
    from api.services import Services

_encode = msgspec.json.Encoder().encode
_checking = asyncio.Lock()


async def checkpoint(request: Request) -> Response:
    """Show the newest signed checkpoint"""
    at = services(request)
    recorded = await at.log.last(KIND, ID)
    key = await asyncio.to_thread(load_public_key, at.settings.data_dir / "keys")
    pem = None if key is None else key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    body: dict[str, Any] = {"checkpoint": None, "public_key": pem, "head": await at.log.last_position()}
    if recorded is not None:
        made = read_checkpoint(recorded.commit)
        body["checkpoint"] = {
            "position": recorded.position,
            "at": recorded.commit.meta.occurred_at,
            "hash": recorded.hash,
            "first": made.first,
            "last": made.last,
            "root": made.root,
            "previous": made.previous,
            "signature": made.signature,
            "signature_valid": None if key is None else made.is_signed_by(key),
        }
    return Json(body)


async def verify(request: Request) -> Response:
    """Check the whole log: hash chain, checkpoints, and that every event is a move of the machine"""
    _must_be_admin(request)
    if _checking.locked():
        raise Conflict("The log is being checked already", hint="Wait for that check to end.", reason="busy")
    async with _checking:
        at, started = services(request), time.perf_counter()
        key = await asyncio.to_thread(load_public_key, at.settings.data_dir / "keys")
        verifier, machine = ChainVerifier(prefix=at.log.prefix, public_key=key), MachineAudit()
        finding: Finding | None = None
        async for batch in at.log.scan():
            finding = await asyncio.to_thread(_check, verifier, machine, batch, at.log)
            if finding is not None:
                break
    return Json(
        {
            "valid": finding is None,
            "position": verifier.position,
            "commits": machine.commits,
            "events": machine.events,
            "checkpoints": verifier.checkpoints,
            "signatures_checked": key is not None,
            "finding": finding,
            "seconds": round(time.perf_counter() - started, 3),
            "at": datetime.now(UTC),
        }
    )


def _check(verifier: ChainVerifier, machine: MachineAudit, batch: list[Recorded], log: EventLog) -> Finding | None:
    for one in batch:
        subject = log.subject_of(one.commit)
        finding = verifier.check(one.position, subject, one.raw)
        if finding is not None:
            return finding
        wrong = machine.feed(one.commit)
        if wrong is not None:
            return Finding(one.position, subject, wrong)
    return None


async def export(request: Request) -> Response:
    """Export the log as JSON lines"""
    _must_be_admin(request)
    name = f"chronova-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(_archive(services(request)), media_type="application/x-ndjson", headers=headers)


async def _archive(at: Services) -> AsyncIterator[bytes]:
    """The lines of `eventlog.archive`, batch by batch; the trailer shows a reader that nothing is missing."""
    log, digest, first, last, count = at.log, sha256(), 0, 0, 0
    head = _encode(Header(FORMAT, log.stream, log.prefix)) + b"\n"
    digest.update(head)
    yield head
    async for batch in log.scan():
        lines = b"".join(_line(one, log.subject_of(one.commit)) for one in batch)
        digest.update(lines)
        first, last, count = first or batch[0].position, batch[-1].position, count + len(batch)
        yield lines
    yield _encode(Trailer(count, first, last, digest.hexdigest())) + b"\n"


def _line(one: Recorded, subject: str) -> bytes:
    return _encode(Entry(one.position, subject, one.recorded_at, msgspec.Raw(one.raw))) + b"\n"


def _must_be_admin(request: Request) -> None:
    if not caller(request).is_admin:
        raise Forbidden("You are not authorized to perform the requested action", hint="It needs the role admin.")
