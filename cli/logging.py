"""Logs: one line per event (structlog) on standard error, which the supervisor sends to DATA/logs/<role>.log.

On a terminal lines are coloured for people, elsewhere they are JSON. Records of libraries that use the standard
`logging` come out in the same form.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

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
    last: list[structlog.typing.Processor]
    if sys.stderr.isatty():
        last = [structlog.dev.ConsoleRenderer()]
    else:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_foreign(last)))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class _Lossy:
    """A file that loses what can not be written: a log on a full disk must not end what it tells of."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def _json(fields: Any, **_: Any) -> str:
    """Every request writes a line, so the encoder is the fast one. What is no JSON is written as Python shows it."""
    return msgspec.json.encode(fields, enc_hook=repr).decode()


def _foreign(last: list[structlog.typing.Processor]) -> list[structlog.typing.Processor]:
    return [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
