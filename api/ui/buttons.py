"""The commands of a server as forms: what can be pressed, what has to be filled in, what asks first. Pure.

Fields are made from the JSON Schema of the command's parameters; a command whose parameters do not fit a plain form is
left to the command line and the API.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.v1.params import PARAMS
from domain.errors import Invalid
from domain.machine import MACHINE

FIRST = (
    *("start", "unpause", "resume", "unrescue", "restore", "unshelve", "confirm-resize", "revert-resize"),
    *("stop", "reboot-soft", "pause"),
)
DANGER = (
    "reboot-hard",
    "trigger-crash-dump",
    "rebuild",
    "shelve-offload",
    "reset-state",
    "delete",
    "force-delete",
    "soft-delete",
)
LOSES = {
    "reboot-hard": "It is switched off like pulling the plug: what the guest has not written is lost.",
    "trigger-crash-dump": "The guest is interrupted: most panic, and what they have not written is lost.",
    "rebuild": "Its disk is replaced by a fresh copy of the image: everything on it is lost.",
    "shelve-offload": "It leaves its host; its disk lives on in an image only.",
    "reset-state": "What is in progress is cancelled; the guest itself is not touched.",
    "delete": "Its disk and addresses go with it. The history stays.",
    "force-delete": "Its disk and addresses go with it, at once. The history stays.",
    "soft-delete": "It can be restored for a while, then it is deleted.",
}
MOST_FIRST = 4


@dataclass(frozen=True)
class Field:
    name: str
    label: str
    kind: str  # text | number | password | choice | flag
    required: bool = False
    choices: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Button:
    command: str
    title: str
    fields: tuple[Field, ...]
    danger: bool = False
    warning: str = ""

    @property
    def at_once(self) -> bool:
        """Pressed without a question: nothing has to be filled in and nothing is lost."""
        return not self.danger and not any(field.required for field in self.fields)


@dataclass(frozen=True)
class Buttons:
    first: tuple[Button, ...]
    more: tuple[Button, ...]


def buttons(legal: Sequence[str]) -> Buttons:
    """What a reader can press, the usual first."""
    made = {command: button for command in legal if (button := _button(command)) is not None}
    first = [command for command in FIRST if command in made][:MOST_FIRST]
    more = [command for command in made if command not in first]
    more.sort(key=lambda command: (made[command].danger, made[command].title))
    return Buttons(tuple(made[command] for command in first), tuple(made[command] for command in more))


def _button(command: str) -> Button | None:
    schema = PARAMS.get(command)
    if schema is None or command in ("create", "refresh-network", "inject-network-info"):
        return None
    fields = [_field(name, part, name in schema["required"]) for name, part in schema["properties"].items()]
    if any(
        field is None and name in schema["required"] for name, field in zip(schema["properties"], fields, strict=True)
    ):
        return None
    return Button(
        command,
        MACHINE.rule(command).title,
        tuple(field for field in fields if field is not None),
        command in DANGER,
        LOSES.get(command, ""),
    )


def _field(name: str, schema: dict[str, Any], required: bool) -> Field | None:
    label = name.replace("_", " ").capitalize()
    hint = schema.get("description", "")
    kind = schema.get("type")
    if "enum" in schema:
        return Field(name, label, "choice", required, tuple(map(str, schema["enum"])), hint)
    if kind == "boolean":
        return Field(name, label, "flag", hint=hint)
    if kind == "integer":
        return Field(name, label, "number", required, hint=hint)
    if kind in ("string", ["string", "null"]):
        return Field(name, label, "password" if schema.get("writeOnly") else "text", required, hint=hint)
    return None


def params_of(command: str, form: dict[str, str]) -> dict[str, Any]:
    """The parameters in a form; a field left empty is left out. Raises 400 for a number that is none."""
    button = _button(command)
    found: dict[str, Any] = {}
    for field in button.fields if button else ():
        text = form.get(f"p.{field.name}", "").strip()
        if field.kind == "flag":
            if text:
                found[field.name] = True
        elif text and field.kind == "number":
            if not text.isdecimal():
                raise Invalid(f"{field.label} has to be a number, not {text!r}")
            found[field.name] = int(text)
        elif text:
            found[field.name] = text
    return found
