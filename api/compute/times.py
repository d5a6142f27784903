"""Times as the compute API writes and reads them. All of them are UTC."""

from __future__ import annotations

from datetime import datetime

from api.http import moment
from domain.errors import Invalid


def seconds(at: datetime | None) -> str | None:
    """`2026-01-02T03:04:05Z`, as resources write it."""
    return None if at is None else at.isoformat()[:19] + "Z"


def micros(at: datetime | None) -> str | None:
    """`2026-01-02T03:04:05.000000` without a zone, as instance actions, OS-SRV-USG and the like write it."""
    return None if at is None else at.isoformat()[:19] + ".000000"


def parse(text: str, what: str = "time") -> datetime:
    """An ISO 8601 time from a query; one without a zone is UTC."""
    try:
        return moment(text)
    except ValueError as error:
        raise Invalid(f"Invalid {what} value: {text}", hint="Write it as 2026-01-02T03:04:05Z.") from error
