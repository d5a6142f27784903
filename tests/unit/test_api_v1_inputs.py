"""What /v1 takes in and leaves out: parameters, moments, filters, secrets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api.v1 import params
from api.v1.filters import EventFilter
from api.v1.moments import parse
from api.v1.scope import redacted
from domain.decide import INSTANT
from domain.errors import Invalid
from domain.machine import MACHINE
from domain.workflows import WORKFLOWS


@pytest.mark.parametrize("command", sorted(params.PARAMS))
def test_every_schema_is_one_and_closed(command: str) -> None:
    schema = params.PARAMS[command]
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) <= set(schema["properties"])
    with pytest.raises(Invalid) as refused:
        params.check(command, {"no_such_parameter": 1})
    assert (refused.value.code, refused.value.reason) == (422, "params")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "garbage", "9" * 5000])
def test_a_moment_outside_all_years_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="no moment"):
        parse(text)


def test_only_commands_that_can_be_carried_out_are_offered() -> None:
    able = set(INSTANT) | set(WORKFLOWS) | {"reset-network"}
    offered = {command for command in params.PARAMS if not MACHINE.rule(command).internal}
    assert offered <= able


@pytest.mark.parametrize(
    ("command", "given", "place"),
    [
        ("stop", {"grace_seconds": -1}, "params/grace_seconds"),
        ("tags", {"tags": ["a,b"]}, "params/tags/0"),
        ("metadata-set", {"metadata": {"key": 1}}, "params/metadata/key"),
        ("resize", {}, "params"),
        ("update", {}, "params"),
        ("reset-state", {"state": "stopped"}, "params/state"),
    ],
)
def test_a_wrong_parameter_is_named(command: str, given: dict[str, Any], place: str) -> None:
    with pytest.raises(Invalid, match=f"^{place}: "):
        params.check(command, given)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("12", 12),
        ("2026-01-31T03:12:00Z", datetime(2026, 1, 31, 3, 12, tzinfo=UTC)),
        ("2026-01-31T03:12:00", datetime(2026, 1, 31, 3, 12, tzinfo=UTC)),
        ("2026-01-31T04:12:00 01:00", datetime(2026, 1, 31, 3, 12, tzinfo=UTC)),
        ("2026-01-31 03:12", datetime(2026, 1, 31, 3, 12, tzinfo=UTC)),
    ],
)
def test_moments_are_positions_or_times(text: str, moment: object) -> None:
    assert parse(text) == moment


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "2026-13-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text)


def test_secrets_are_shown_to_nobody_and_details_to_operators() -> None:
    data = {
        "patch": {"operation": {"params": {"admin_password": "sealed", "image": {"id": "i"}}}},
        "fault": {"code": "x", "message": "m", "details": "Traceback"},
        "details": {"placement": {}},
        "user_data": None,
    }
    member, operator = redacted(data, operator=False), redacted(data, operator=True)
    for seen in (member, operator):
        assert seen["patch"]["operation"]["params"] == {"admin_password": "(redacted)", "image": {"id": "i"}}
        assert seen["details"] == {"placement": {}}
        assert seen["user_data"] is None
    assert member["fault"] == {"code": "x", "message": "m"}
    assert operator["fault"]["details"] == "Traceback"


def test_a_type_filter_may_end_in_a_star() -> None:
    assert EventFilter(type="server.stop.*").admits_type("server.stop.accepted")
    assert not EventFilter(type="server.stop.*").admits_type("server.start.accepted")
    assert not EventFilter(type="server.stop").admits_type("server.stop.accepted")
    assert EventFilter().admits_type("anything")
