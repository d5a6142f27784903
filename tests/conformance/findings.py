"""Comparing what happened with what was recorded: every difference is a `Finding`, none is judged here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tests.conformance.recording import Cell

# Placeholders of the recording, and what may stand in their place.
_PLACEHOLDERS = {
    "{uuid}": r"[0-9a-f-]{36}",
    "{req}": r"req-[0-9a-f-]{36}",
    "{time}": r".+",
    "{pass}": r".+",
    "{hex56}": r"[0-9a-f]{56}",
    "{base}": r"http://[^ ]+",
    "{host}": r"\S+",
}
_STATE_FIELDS = (
    "status",
    "vm_state",
    "task_state",
    "power_state",
    "locked",
    "locked_reason",
    "flavor",
    "name",
    "metadata",
)


@dataclass(frozen=True)
class Finding:
    """`what`: code, message, fault, body, actions, or `after.<field>`."""

    cell: str
    section: str
    state: str
    action: str
    what: str
    expected: Any
    actual: Any

    def __str__(self) -> str:
        return f"{self.cell}: {self.what}: recorded {self.expected!r}, got {self.actual!r}"


@dataclass(frozen=True)
class Observed:
    """What our system answered, and what became of the server."""

    code: int
    body: Any
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    actions: list[dict[str, Any]]


def compare(cell: Cell, seen: Observed, ids: dict[str, str]) -> list[Finding]:
    """Every difference between a recorded cell and what was seen."""
    found: list[tuple[str, Any, Any]] = []
    if seen.code != cell.code:
        found.append(("code", cell.code, seen.code))
    if cell.refused and seen.code >= 400:
        found += faults(cell.body, seen.body, ids)
    elif not cell.refused and seen.code < 400:
        found += [("body", *pair) for pair in shape(cell.body, seen.body)]
    if cell.after is not None and seen.after is not None:
        found += _states(cell, seen.before, seen.after)
    expected, actual = _history(cell.new_actions), _history(seen.actions)
    if expected != actual:
        found.append(("actions", expected, actual))
    return [Finding(cell.name, cell.section, cell.state, cell.action, *one) for one in found]


def faults(expected: Any, actual: Any, ids: dict[str, str]) -> list[tuple[str, Any, Any]]:
    """Where two error bodies differ: in the fault's name, or ours does not begin with the recorded sentence."""
    wanted, name = _fault(expected)
    got, our_name = _fault(actual)
    found: list[tuple[str, Any, Any]] = []
    if name != our_name:
        found.append(("fault", name, our_name))
    if not re.match(_pattern(wanted, ids), got, re.DOTALL):
        found.append(("message", wanted, got))
    return found


def _fault(body: Any) -> tuple[str, str]:
    """The message and the fault's name."""
    if isinstance(body, dict) and len(body) == 1:
        name, inner = next(iter(body.items()))
        if isinstance(inner, dict):
            return str(inner.get("message", "")), str(name)
    return (str(body.get("message", "")), "") if isinstance(body, dict) else (str(body), "")


def _pattern(text: str, ids: dict[str, str]) -> str:
    """A recorded sentence as the beginning that ours must have."""
    pattern = re.escape(text.rstrip())
    for name, value in ids.items():
        pattern = pattern.replace(re.escape("{" + name + "}"), re.escape(value))
    for name, allowed in _PLACEHOLDERS.items():
        pattern = pattern.replace(re.escape(name), allowed)
    return re.sub(r"\bhost[123]\b", "host[123]", pattern)


def shape(expected: Any, actual: Any, path: str = "") -> list[tuple[Any, Any]]:
    """Where two bodies have different keys. Values are the business of the code that made them."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        if path.endswith(_FREE):
            return []
        missing = sorted(expected.keys() - actual.keys())
        added = sorted(actual.keys() - expected.keys())
        found: list[tuple[Any, Any]] = []
        if missing or added:
            found.append((f"{path} with {missing}", f"{path} with {added}"))
        for key in expected.keys() & actual.keys():
            found += shape(expected[key], actual[key], f"{path}.{key}")
        return found
    if isinstance(expected, list) and isinstance(actual, list):
        return shape(expected[0], actual[0], f"{path}[]") if expected and actual else []
    if _kind(expected) != _kind(actual) and None not in (expected, actual):
        return [(f"{path} is {_kind(expected)}", f"{path} is {_kind(actual)}")]
    return []


# Objects whose keys are the users' own.
_FREE = (".metadata", ".addresses", ".extra_specs", ".cpu_info", ".features", ".topology")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def _states(cell: Cell, before: dict[str, Any] | None, after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """What Nova changed has to become the same here; what it left alone has to stay as it was."""
    expected = cell.after
    assert expected is not None
    if "GONE" in (expected["status"], after["status"]):
        return [] if expected["status"] == after["status"] else [("after.status", expected["status"], after["status"])]
    found = []
    for name in _STATE_FIELDS:
        wanted = expected[name]
        unchanged = cell.before is not None and before is not None and cell.before.get(name) == wanted
        if wanted != after[name] and not (unchanged and before is not None and before.get(name) == after[name]):
            found.append((f"after.{name}", wanted, after[name]))
    for name in ("host", "launched", "terminated"):
        if bool(expected[name]) != bool(after[name]):
            found.append((f"after.{name}", bool(expected[name]), bool(after[name])))
    return found


def _history(actions: list[dict[str, Any]]) -> list[tuple[str, str | None, tuple[tuple[str, str | None], ...]]]:
    return [
        (one["action"], one["message"], tuple((event["event"], event["result"]) for event in one["events"]))
        for one in actions
    ]
