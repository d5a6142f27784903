"""What a body may hold, in Nova's sentences. Recorded sentences of a real Nova are in tests/conformance."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from jsonschema import Draft4Validator

from api.compute import schemas
from api.compute.schemas.actions import ACTIONS
from api.compute.schemas.keypairs import CREATE as KEYPAIR
from api.compute.schemas.servers import CREATE, LIST, NAMES, TAGS, UPDATE
from api.compute.schemas.types import closed
from api.compute.validation import Schemas
from domain.errors import Invalid

SERVER: dict[str, Any] = {"name": "a", "flavorRef": "1", "imageRef": ""}


def refusal(table: Schemas, version: int, value: Any) -> str:
    with pytest.raises(Invalid) as caught:
        table.check(version, value)
    return caught.value.text


@pytest.mark.parametrize("name", [one.name for one in pkgutil.iter_modules(schemas.__path__)])
def test_every_table_is_itself_well_formed(name: str) -> None:
    module = importlib.import_module(f"api.compute.schemas.{name}")
    for table in vars(module).values():
        for held in table.values() if isinstance(table, dict) else (table,):
            if isinstance(held, Schemas):
                for since, schema in held.all:
                    Draft4Validator.check_schema(schema)
                    assert 1 <= since <= 96


def test_the_first_thing_wrong_is_named_with_its_value() -> None:
    body = {"server": SERVER | {"min_count": 0}}
    assert refusal(CREATE, 2, body) == (
        "Invalid input for field/attribute min_count. Value: 0. 0 is less than the minimum of 1"
    )
    assert refusal(UPDATE, 96, {}) == "'server' is a required property"
    assert refusal(ACTIONS["reboot"], 96, {"reboot": {"type": "WARM"}}).startswith(
        "Invalid input for field/attribute type. Value: WARM. 'WARM' is not one of ['HARD'"
    )


def test_a_name_says_its_own_rule() -> None:
    assert refusal(CREATE, 2, {"server": SERVER | {"name": " a"}}) == (
        "An invalid 'name' value was provided. The name must be: printable characters. "
        "Can not start or end with whitespace."
    )


@pytest.mark.parametrize(
    ("field", "value", "since"),
    [
        ("description", "d", 19),
        ("tags", ["a"], 52),
        ("host", "host-1", 74),
        ("hostname", "web", 90),
    ],
)
def test_a_field_exists_from_its_microversion_on(field: str, value: Any, since: int) -> None:
    networks = {"networks": "none"}
    before = SERVER | {field: value} | (networks if since > 37 else {})
    assert "Additional properties are not allowed" in refusal(CREATE, since - 1, {"server": before})
    CREATE.check(since, {"server": before | (networks if since >= 37 else {})})


def test_personality_is_gone_from_2_57() -> None:
    with_files = SERVER | {"networks": "none", "personality": []}
    CREATE.check(56, {"server": with_files})
    assert "'personality' was unexpected" in refusal(CREATE, 57, {"server": with_files})


def test_networks_are_needed_from_2_37() -> None:
    CREATE.check(36, {"server": SERVER})
    assert "'networks' is a required property" in refusal(CREATE, 37, {"server": SERVER})


def test_numbers_may_be_written_as_text() -> None:
    CREATE.check(2, {"server": SERVER | {"max_count": "3"}})
    assert "less than the minimum" in refusal(CREATE, 2, {"server": SERVER | {"max_count": "0"}})


def test_queries_are_lists_and_named_as_parameters() -> None:
    LIST.check(96, {"name": ["^a"], "limit": ["10"]})
    LIST.check(96, {"name": ["["]})  # found as it is; only what finds nothing is refused
    assert refusal(NAMES, 96, {"name": ["["]}) == (
        "Invalid input for query parameters name. Value: [. '[' is not a 'regex'"
    )
    LIST.check(74, {"frobnicate": ["1"]})
    assert refusal(LIST, 75, {"frobnicate": ["1"]}) == (
        "Additional properties are not allowed ('frobnicate' was unexpected)"
    )


def test_tags_have_a_form() -> None:
    TAGS.check(26, {"tags": ["blue"]})
    assert "does not match" in refusal(TAGS, 26, {"tags": ["a/b"]})
    assert "is too long" in refusal(TAGS, 26, {"tags": ["x" * 61]})


def test_key_names_and_public_keys() -> None:
    KEYPAIR.check(91, {"keypair": {"name": "k"}})
    assert "'public_key' is a required property" in refusal(KEYPAIR, 92, {"keypair": {"name": "k", "type": "ssh"}})
    assert "unsafe characters" in refusal(KEYPAIR, 91, {"keypair": {"name": "a@b"}})
    KEYPAIR.check(92, {"keypair": {"name": "a@b.c", "type": "ssh", "public_key": "x"}})


def test_what_was_right_once_does_not_make_another_table_lenient() -> None:
    narrow = Schemas((1, closed({"a": {"type": "string"}}, "a")))
    wide = Schemas((1, {}))
    wide.check(1, {"b": 1})
    assert refusal(narrow, 1, {"b": 1})
    narrow.check(1, {"a": "x"})
    narrow.check(1, {"a": "x"})
    assert refusal(narrow, 1, {"a": True})


def test_a_boolean_is_no_number() -> None:
    table = Schemas((1, closed({"n": {"type": "integer", "minimum": 1}})))
    table.check(1, {"n": 1})
    assert refusal(table, 1, {"n": True})
