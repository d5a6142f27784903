"""The sentences that explain a server's state, from actions and refusals alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from api.v1.reasons import evidence, reasons, why_refused
from domain.errors import Conflict
from domain.orders import Fault
from domain.server import Operation, Server, ServerFault
from projections.rows import ActionRow, RejectionRow, StepRow

NOW = datetime(2026, 1, 31, 3, 12, tzinfo=UTC)


def step(name: str, fault: Fault | None = None, **fields: Any) -> StepRow:
    given: dict[str, Any] = {
        "number": 1,
        "undo": False,
        "attempt": 1,
        "event": None,
        "start_time": NOW,
        "finish_time": NOW,
        "result": "Error" if fault else "Success",
        "host": "host-1",
        "message": None,
        "progress": None,
        "details": {},
        "sub_steps": (),
        "position": 1,
        "position_last": 1,
    }
    return StepRow(step=name, fault=fault, **(given | fields))


def action(command: str, *steps: StepRow, outcome: str = "succeeded", fault: Fault | None = None) -> ActionRow:
    return ActionRow(
        id=1024,
        server_id="s",
        action=command,
        command=command,
        request_id="req-1",
        internal=False,
        user_id="u",
        user_name="demo",
        project_id="p",
        roles=("member",),
        remote="",
        start_time=NOW,
        finish_time=NOW,
        updated_at=NOW,
        result="Success" if outcome == "succeeded" else "Error",
        outcome=outcome,
        host="host-1",
        text=None,
        fault=fault,
        details={},
        position_first=1,
        position_last=2,
        steps=steps,
    )


def server(**fields: Any) -> Server:
    return Server(**({"id": "s", "vm_state": "active", "project_id": "p"} | fields))


def operation(**fields: Any) -> Operation:
    given: dict[str, Any] = {
        "request_id": "req-1",
        "command": "stop",
        "started_at": NOW,
        "deadline": NOW + timedelta(minutes=5),
    }
    return Operation(**(given | {"user_id": "u", "project_id": "p", "step": "power_off"} | fields))


def rejection(**fields: Any) -> RejectionRow:
    given: dict[str, Any] = {
        "id": 1,
        "at": NOW,
        "kind": "server",
        "aggregate_id": "s",
        "command": "start",
        "user_id": "u",
        "user_name": "demo",
        "project_id": "p",
        "actor": {},
        "request_id": "req-2",
        "code": 409,
        "reason": "vm_state",
        "message": "Cannot 'start' instance s while it is in vm_state active",
        "hint": "start is legal in vm_state stopped.",
        "params": {},
    }
    return RejectionRow(**(given | fields))


def test_a_server_without_trouble_is_well() -> None:
    found = reasons(server(), [action("create")], [], ["stop"])
    assert (found.kind, found.summary) == ("well", "Nothing is wrong.")


def test_what_a_host_saw_by_itself_is_told() -> None:
    seen = msgspec.structs.replace(action("power-sync", outcome="observed"), text="The guest powered itself off")
    found = reasons(server(vm_state="stopped"), [seen, action("create")], [], ["start"])
    assert found.kind == "well"
    assert found.summary.endswith("Its host saw at 2026-01-31 03:12:00 UTC: The guest powered itself off")
    assert found.action is seen


def test_a_failure_names_action_step_host_and_cause() -> None:
    fault = Fault("simulated_failure", "The disk is full")
    failed = action("pause", step("pause", fault), outcome="failed", fault=fault)
    state = server(vm_state="error", fault=ServerFault(500, "The disk is full", NOW, reason="simulated_failure"))
    found = reasons(state, [failed], [], ["delete", "reboot-hard", "lock"])
    assert found.kind == "failed"
    assert found.summary == "Pause failed at step pause on host-1: The disk is full"
    assert found.commands == ("delete", "reboot-hard", "lock")
    assert found.advice == ("Ways out: reboot-hard, delete.",)


def test_no_valid_host_comes_with_its_evidence() -> None:
    fault = Fault("no_valid_host", "No valid host was found.")
    placement: dict[str, Any] = {
        "host": None,
        "weights": {},
        "dropped": [
            {"host": "host-1", "filter": "RAM", "need": "512 MB", "have": "96 MB free"},  # as it was once kept
            {"hosts": ["host-2", "host-3"], "filter": "RequestedHost", "need": "host-1", "have": None},
        ],
    }
    failed = action(
        "create", step("schedule", fault, host=None, details={"placement": placement}), outcome="failed", fault=fault
    )
    state = server(vm_state="error", fault=ServerFault(500, fault.message, NOW, reason="no_valid_host"))
    found = reasons(state, [failed], [], [])
    assert found.evidence is not None
    rows = {row["host"]: (row["filter"], row["have"]) for row in found.evidence.rows}
    assert rows == {
        "host-1": ("RAM", "96 MB free"),
        "host-2": ("RequestedHost", "host-2"),
        "host-3": ("RequestedHost", "host-3"),
    }
    assert found.evidence.summary == "Every host was dropped (RAM: 1, RequestedHost: 2)."
    assert "smaller flavor" in found.advice[0]
    assert evidence(action("stop")) is None


def test_when_every_host_failed_the_advice_is_about_the_failure() -> None:
    wrong = Fault("simulated_failure", "The disk is full")
    fault = Fault("no_valid_host", "Exceeded maximum number of retries.")
    failed = action("create", step("spawn", wrong), step("schedule", fault), outcome="failed", fault=fault)
    state = server(vm_state="error", fault=ServerFault(500, fault.message, NOW, reason="no_valid_host"))
    found = reasons(state, [failed], [], [])
    assert found.summary.endswith("The disk is full")
    assert "was tried" in found.advice[0]


def test_the_last_attempt_is_the_one_that_is_told() -> None:
    wrong = Fault("simulated_failure", "The disk is full")
    tried = [step("spawn", wrong, host=f"host-{number}") for number in (1, 2, 3)]
    failed = action("create", *tried, outcome="failed", fault=wrong)
    state = server(vm_state="error", fault=ServerFault(500, wrong.message, NOW, reason="simulated_failure"))
    assert "failed at step spawn on host-3" in reasons(state, [failed], [], []).summary


def test_what_is_in_progress_says_who_it_waits_for_and_until_when() -> None:
    state = server(host="host-1", operation=operation(awaits="agent"), task_state="powering-off")
    found = reasons(state, [], [], [])
    assert found.kind == "in_progress"
    assert "waiting for host host-1" in found.summary
    assert "03:17:00" in found.advice[0]


def test_a_failed_undo_goes_to_an_operator() -> None:
    state = server(operation=operation(stuck=True, undoing=True, fault=Fault("x", "broken")))
    found = reasons(state, [], [], ["delete"])
    assert (found.kind, found.detail) == ("stuck", "broken")
    assert "chronova stuck" in found.advice[0]


def test_a_refusal_stands_beside_the_state_of_a_healthy_server() -> None:
    found = reasons(server(), [action("create")], [rejection()], ["stop"])
    assert (found.kind, found.commands) == ("well", ("stop",))
    assert found.refused[0].hint == "start is legal in vm_state stopped."


def test_a_resize_that_waits_says_for_what() -> None:
    found = reasons(server(vm_state="resized"), [action("resize")], [], ["confirm-resize", "revert-resize", "delete"])
    assert found.commands == ("confirm-resize", "revert-resize", "delete")
    assert "confirm-resize" in found.advice[0]


def test_a_deletion_says_who_when_and_by_which_request() -> None:
    fault = ServerFault(500, "broken", NOW)
    gone = server(vm_state="deleted", fault=fault, terminated_at=NOW)
    found = reasons(gone, [action("delete"), action("create")], [rejection()], [])
    assert found.kind == "deleted"
    assert found.summary == f"It was deleted at {NOW:%Y-%m-%d %H:%M:%S} UTC by demo, request req-1."


def test_an_old_failure_is_no_reason_once_something_worked() -> None:
    fault = Fault("x", "broken")
    failed = action("pause", step("pause", fault), outcome="failed", fault=fault)
    assert reasons(server(), [action("stop"), failed], [], []).kind == "well"


def test_why_a_command_is_refused() -> None:
    refused = why_refused("start", Conflict("no", hint="wait", reason="busy"), permitted=True)
    assert refused == {"command": "start", "legal": False, "reason": "busy", "message": "no", "hint": "wait"}
    assert why_refused("start", None, permitted=True)["legal"] is True
    assert why_refused("evacuate", None, permitted=False)["message"] == "It needs admin."
