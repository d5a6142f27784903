"""How things are said on a page: times, durations, states and results, as words, icons and one hue each. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from domain.machine import MACHINE

# Status -> (hue, icon). The hues are classes of the style sheet; colour never stands alone.
_STATUS = {
    "ACTIVE": ("good", "play"),
    "ERROR": ("bad", "cross"),
    "SHUTOFF": ("off", "stop"),
    "PAUSED": ("wait", "pause"),
    "SUSPENDED": ("wait", "pause"),
    "VERIFY_RESIZE": ("undo", "question"),
    "RESCUE": ("undo", "plus"),
    "SHELVED": ("off", "box"),
    "SHELVED_OFFLOADED": ("off", "box"),
    "SOFT_DELETED": ("off", "bin"),
    "DELETED": ("off", "bin"),
    "UNKNOWN": ("off", "question"),
}
_RESULT = {
    "succeeded": ("good", "check", "Succeeded"),
    "failed": ("bad", "cross", "Failed"),
    "reverted": ("undo", "undo", "Undone"),
    "cancelled": ("off", "skip", "Cancelled"),
    "observed": ("wait", "eye", "Observed"),
    None: ("run", "spin", "Running"),
}


def status_look(status: str) -> tuple[str, str]:
    """Hue and icon of a server's status; everything that is on its way somewhere looks alike."""
    return _STATUS.get(status, ("run", "spin"))


def result_look(action: Any) -> tuple[str, str, str]:
    """Hue, icon and word for how an action, or a step, ended."""
    outcome = getattr(action, "outcome", None)
    if outcome is None and action.result is not None:
        outcome = "succeeded" if action.result == "Success" else "failed"
    if getattr(action, "undo", False) and outcome == "succeeded":
        return "undo", "undo", "Taken back"
    return _RESULT.get(outcome, ("off", "question", str(outcome)))


def command_title(command: str) -> str:
    """`reboot-soft` -> "Reboot (soft)"."""
    if command == "power":
        return "Power state seen"
    return MACHINE.rule(command).title if command in MACHINE.commands else command.replace("-", " ").capitalize()


def step_title(step: str) -> str:
    return (step or "(no step)").replace("_", " ").capitalize()


def took(seconds: float | None) -> str:
    """A duration with two digits that matter: 340 ms, 1.2 s, 2 min 5 s, 3 h 12 min, 4 d 2 h."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    for unit, size, below, small in (("min", 60, "s", 1), ("h", 3600, "min", 60), ("d", 86400, "h", 3600)):
        whole, rest = divmod(round(seconds), size)
        if whole < {"min": 60, "h": 24}.get(unit, 1 << 60):
            part = rest // small
            return f"{whole} {unit} {part} {below}" if part else f"{whole} {unit}"
    return f"{seconds:.0f} s"


def between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()


def ago(moment: datetime | None, now: datetime) -> str:
    """`just now`, `12 s ago`, `2 min ago`, `3 h ago`, `5 d ago`: the largest unit only."""
    if moment is None:
        return ""
    seconds = (now - moment).total_seconds()
    if seconds < 2:
        return "just now"
    for unit, size, limit in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 86400)):
        if seconds < limit:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds // 86400:.0f} d ago"


def since(seconds: float) -> str:
    """As `ago`, for what is measured in seconds."""
    return ago(datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(seconds, UTC))


def clock(moment: datetime | None) -> str:
    """The time of day with milliseconds, in UTC."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def stamp(moment: datetime | None) -> str:
    """Date and time with the offset: `2026-01-31 03:12:00 +00:00`."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S +00:00")


def day(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%d %b %Y")


def iso(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")


def short(identifier: str | None) -> str:
    """Enough of an id to tell it from its neighbours: `req-1a2b3c4d`, `1a2b3c4d`."""
    if not identifier:
        return ""
    head, _, rest = identifier.partition("-")
    return f"req-{rest[:8]}" if head == "req" else identifier[:8]


def value(given: Any) -> str:
    """A field's value on one line."""
    if given is None:
        return "none"
    if isinstance(given, bool):
        return "yes" if given else "no"
    if isinstance(given, dict):
        return ", ".join(f"{key}: {value(item)}" for key, item in given.items()) or "empty"
    if isinstance(given, list | tuple):
        return ", ".join(value(item) for item in given) or "empty"
    return str(given) if given != "" else "empty"


_TELLING = ("vm_state", "task_state", "power_state", "host", "name", "locked_by", "metadata", "tags", "fault")
_SILENT = frozenset({"operation", "generation", "progress", "updated_at"})
MOST_NEWS = 5


def news(changed: dict[str, Any]) -> tuple[list[tuple[str, Any]], int]:
    """The fields that tell what an event did, the telling ones first, and how many more there are."""
    names = [name for name in _TELLING if name in changed and not (name == "fault" and changed[name] is None)]
    names += [name for name in changed if name not in names and name not in _SILENT and name not in _TELLING]
    shown = names[: MOST_NEWS if len(names) <= MOST_NEWS else 3]
    return [(name, changed[name]) for name in shown], len(names) - len(shown)


def size(megabytes: float) -> str:
    """MiB as a person reads it: 512 MB, 8 GB, 3.7 TB."""
    for unit in ("MB", "GB", "TB"):
        if megabytes < 1024 or unit == "TB":
            return f"{megabytes:,.0f} {unit}" if megabytes == int(megabytes) else f"{megabytes:,.1f} {unit}"
        megabytes /= 1024
    return ""


def number(count: float) -> str:
    return f"{count:,.0f}"


FILTERS = {
    function.__name__: function
    for function in (
        *(status_look, result_look, command_title, step_title, took, between, ago, since, clock, stamp, day, iso),
        *(short, value, news, size, number),
    )
}
