"""Logs: one line per event (structlog) on standard error, which the supervisor sends to DATA/logs/<role>.log.

On a terminal lines are coloured for people, elsewhere they are JSON. Records of libraries that use the standard
`logging` come out in the same form.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import IO, Any, AnyStr, BinaryIO, TextIO, cast

import msgspec
import structlog

LEVELS = ("debug", "info", "warning", "error")


def set_up(level: str, role: str) -> None:
    number = getattr(logging, level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    own: list[structlog.typing.Processor]
    foreign: list[structlog.typing.Processor]
    factory: structlog.PrintLoggerFactory | structlog.BytesLoggerFactory
    if sys.stderr.isatty():
        own = foreign = [structlog.dev.ConsoleRenderer()]
        factory = structlog.PrintLoggerFactory(cast("TextIO", _Lossy(sys.stderr)))
    else:
        # Every request writes a line: bytes go out as the encoder made them.
        own = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
        foreign = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json_text)]
        factory = structlog.BytesLoggerFactory(cast("BinaryIO", _Lossy(sys.stderr.buffer)))
    structlog.configure(
        processors=[*shared, *own],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_foreign(foreign)))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class _Lossy:
    """A file that loses what can not be written: a log on a full disk must not end what it tells of."""

    def __init__(self, file: IO[AnyStr]) -> None:
        self._file: IO[Any] = file

    def write(self, what: str | bytes) -> int:
        with suppress(OSError):
            self._file.write(what)
        return len(what)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


_json_encoder = msgspec.json.Encoder(enc_hook=repr)  # what is no JSON is written as Python shows it


def _json(fields: Any, **_: Any) -> bytes:
    return _json_encoder.encode(fields)


def _json_text(fields: Any, **_: Any) -> str:
    return _json(fields).decode()


def _foreign(last: list[structlog.typing.Processor]) -> list[structlog.typing.Processor]:
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
