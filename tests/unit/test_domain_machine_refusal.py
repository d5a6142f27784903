"""Every 409 that a running Nova gave for a state, a lock or a missing host, said again by the machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.machine import MACHINE

RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "conformance/spec/refusals.json").read_text(encoding="utf-8")
)
BY_BODY = {
    "changePassword": "set-password",
    "confirmResize": "confirm-resize",
    "createBackup": "create-backup",
    "createImage": "create-image",
    "evacuate": "evacuate",
    "migrate": "migrate",
    "os-getConsoleOutput": "get-console-output",
    "os-migrateLive": "live-migrate",
    "os-start": "start",
    "os-stop": "stop",
    "pause": "pause",
    "rebuild": "rebuild",
    "rescue": "rescue",
    "resize": "resize",
    "restore": "restore",
    "resume": "resume",
    "revertResize": "revert-resize",
    "shelve": "shelve",
    "shelveOffload": "shelve-offload",
    "suspend": "suspend",
    "trigger_crash_dump": "trigger-crash-dump",
    "unpause": "unpause",
    "unrescue": "unrescue",
    "unshelve": "unshelve",
}


def command_of(cell: dict[str, Any]) -> str | None:
    """The command that a recorded request asks for; None: it is a query (diagnostics)."""
    if cell["path"].endswith("/action"):
        if cell["body_key"] == "reboot":
            return f"reboot-{cell['reboot_type'].lower()}"
        return BY_BODY[cell["body_key"]]
    if "/metadata" in cell["path"]:
        return "metadata-set"
    if "/tags/" in cell["path"]:
        return "tags"
    return "delete" if cell["method"] == "DELETE" else None


COMMANDS = [cell for cell in RECORDED if command_of(cell) is not None]


def test_only_queries_are_left_out() -> None:
    assert {cell["path"] for cell in RECORDED if command_of(cell) is None} == {"/servers/{id}/diagnostics"}
    assert len(COMMANDS) == 195


@pytest.mark.parametrize("cell", COMMANDS, ids=lambda cell: f"{cell['section']}-{cell['state']}-{command_of(cell)}")
def test_novas_sentence(cell: dict[str, Any]) -> None:
    command = command_of(cell)
    assert command is not None
    offloaded = cell["vm_state"] == "shelved_offloaded"  # one cell was read before the host was cleared
    refusal = MACHINE.refusal(
        command,
        vm_state=cell["vm_state"],
        task_state=cell["task_state"],
        launched=cell["launched"],
        locked=cell["locked"],
        is_admin=cell["actor"] == "admin",
        host=None if offloaded else cell["host"],
        host_up=cell["host_status"] == "UP",
    )
    assert refusal is not None
    assert refusal.code == 409
    assert refusal.text("{id}") == cell["message"]
    assert refusal.hint


def ask(command: str, **changes: Any) -> str | None:
    server: dict[str, Any] = {
        "vm_state": "active",
        "task_state": None,
        "launched": True,
        "locked": False,
        "is_admin": False,
        "host": "host-1",
        "host_up": True,
    }
    refusal = MACHINE.refusal(command, **(server | changes))
    return None if refusal is None else refusal.reason


def test_guard_order_lock_host_state_host_up() -> None:
    wrong: dict[str, Any] = {"vm_state": "paused", "task_state": "unpausing", "launched": False, "host": None}
    assert ask("stop", **wrong, locked=True) == "locked"
    assert ask("stop", **wrong) == "no_host"
    assert ask("stop", **wrong | {"host": "host-1"}) == "vm_state"
    assert ask("stop", task_state="pausing", launched=False) == "task_state"
    assert ask("stop", launched=False) == "not_launched"
    assert ask("resize", **wrong) == "vm_state"
    assert ask("resize", host=None) == "no_host"
    assert ask("resize", host_up=False) == "host_down"
    assert ask("resize") is None


def test_the_lock_holds_users_not_administrators() -> None:
    assert ask("delete", locked=True) == "locked"
    assert ask("delete", locked=True, is_admin=True) is None
    assert ask("create-image", locked=True) is None


def test_no_console_while_migrating() -> None:
    """Nova fails with 500 here; an unhandled state is 409 with us."""
    assert ask("remote-console", task_state="migrating") == "task_state"


def test_abort_without_a_migration_names_no_state() -> None:
    refusal = MACHINE.refusal(
        "live-migration-abort",
        vm_state="active",
        task_state=None,
        launched=True,
        locked=False,
        is_admin=True,
        host="host-1",
    )
    assert refusal is not None
    assert refusal.text("a-server") == "Instance a-server is in an invalid state for 'abort live migration'"


def test_a_removed_command_is_gone() -> None:
    refusal = MACHINE.refusal(
        "reset-network",
        vm_state="active",
        task_state=None,
        launched=True,
        locked=False,
        is_admin=True,
        host="host-1",
    )
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (410, "gone")


def test_an_api_may_name_the_action_otherwise() -> None:
    refusal = MACHINE.refusal(
        "tags", vm_state="error", task_state=None, launched=True, locked=False, is_admin=False, host="host-1"
    )
    assert refusal is not None
    assert refusal.text("s", "delete tag") == "Cannot 'delete tag' instance s while it is in vm_state error"
