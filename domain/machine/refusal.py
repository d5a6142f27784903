"""Why a command is refused, in Nova's own sentences, and what to do next in ours.

Clients match on the sentences, so they are Nova's to the letter; the hint may follow them. Source: the answers of a
running Nova 34, replayed in tests/unit/test_domain_machine_refusal.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from domain.machine.rule import CommandRule

Reason = Literal["locked", "vm_state", "task_state", "not_launched", "no_host", "host_down", "gone"]

IN_STATE = "Cannot '{action}' instance {id} while it is in %s %s"
INVALID = "Instance {id} is in an invalid state for '{action}'"
LOCKED = "Instance {id} is locked"
NOT_READY = "Instance {id} is not ready"
HOST_DOWN = "Service is unavailable at this time."
REMOVED = "The {action} action was removed from the API and does nothing"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command that the machine does not allow now. `message` has the places {id} and {action}, which `text` fills."""

    code: int
    reason: Reason
    message: str
    hint: str
    action: str

    def text(self, server_id: str, action: str | None = None) -> str:
        """Nova's sentence. `action` replaces the word for the command where an API has several ("delete tag")."""
        return self.message.format(id=server_id, action=action or self.action)


def _listed(states: frozenset[str] | frozenset[str | None]) -> str:
    return ", ".join(sorted("none" if state is None else state for state in states))


def locked(rule: CommandRule) -> Refusal:
    message = INVALID if rule.locked_reads_invalid else LOCKED
    return Refusal(409, "locked", message, "Unlock the server first, or ask an administrator.", rule.word)


def no_host(rule: CommandRule) -> Refusal:
    hint = "The server is on no host: it was never placed, or it is offloaded. Unshelve it, or delete it."
    return Refusal(409, "no_host", NOT_READY, hint, rule.word)


def host_down(rule: CommandRule) -> Refusal:
    hint = "The server's host does not answer, or was declared down. Try again when it is back."
    return Refusal(409, "host_down", HOST_DOWN, hint, rule.word)


def wrong_vm_state(rule: CommandRule, vm_state: str) -> Refusal:
    hint = f"{rule.id} is legal in vm_state {_listed(rule.guard.vm_states)}."
    return Refusal(409, "vm_state", IN_STATE % ("vm_state", vm_state), hint, rule.word)


def wrong_task_state(rule: CommandRule, task_state: str | None) -> Refusal:
    if task_state is None:
        hint = f"{rule.id} is legal only while task_state is {_listed(rule.guard.task_states)}."
        return Refusal(409, "task_state", INVALID, hint, rule.word)
    hint = "Wait until what is in progress has ended; it has a deadline. The action history shows its steps."
    return Refusal(409, "task_state", IN_STATE % ("task_state", task_state), hint, rule.word)


def never_launched(rule: CommandRule) -> Refusal:
    hint = "The server never ran. Delete it and create it again; its fault says why it failed."
    return Refusal(409, "not_launched", INVALID, hint, rule.word)


def removed(rule: CommandRule) -> Refusal:
    return Refusal(410, "gone", REMOVED, "There is nothing to use in its place.", rule.word)
