"""The foundation without a network: paths, error forms, passwords, keys, JSON patches."""

from __future__ import annotations

import asyncio
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from api import errors
from api.auth import load_keys
from api.errors import NeutronError
from api.http import version_of
from api.identity.passwords import NOBODY, hash_now, verify_now
from api.image.patch import patched
from api.middleware import MOUNTS, canonical, is_open
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Rejected, Unavailable
from domain.resources import Image
from eventlog.errors import LogUnavailable


@pytest.mark.parametrize(
    ("path", "spelling"),
    [
        ("/", "/"),
        ("/compute", "/compute/"),
        ("/compute/", "/compute/"),
        ("/compute/v2.1/", "/compute/v2.1"),
        ("/compute/v2.1/servers//", "/compute/v2.1/servers"),
        ("/healthz/", "/healthz"),
        ("/nothing", "/nothing"),
        ("", ""),
    ],
)
def test_one_spelling_per_path(path: str, spelling: str) -> None:
    assert canonical(path) == spelling


@given(st.text("/abcompute.v12", max_size=30))
def test_the_spelling_is_stable(path: str) -> None:
    assert canonical(canonical("/" + path)) == canonical("/" + path)


def test_only_documents_and_sign_in_are_open() -> None:
    assert is_open("GET", "/compute/v2.1")
    assert is_open("POST", "/identity/v3/auth/tokens")
    assert not is_open("POST", "/compute/v2.1")
    assert not is_open("GET", "/identity/v3/auth/tokens")
    assert not is_open("GET", "/compute/v2.1/servers")
    assert not is_open("GET", "/v1/servers")
    assert not is_open("GET", "/uix")


def body_of(path: str, error: Rejected) -> Any:
    scope = {"type": "http", "path": path, "state": {"request_id": "req-1"}}
    return msgspec.json.decode(errors.render(scope, error).body)


def test_each_family_has_its_form() -> None:
    gone = NotFound("No such thing", hint="Look elsewhere")
    said = "No such thing. Look elsewhere"
    assert body_of("/compute/v2.1/x", gone) == {"itemNotFound": {"code": 404, "message": said}}
    assert body_of("/volume/v3/x", gone) == {"itemNotFound": {"code": 404, "message": said}}
    assert body_of("/identity/v3/x", gone) == {"error": {"code": 404, "message": said, "title": "Not Found"}}
    neutron = NeutronError("PortNotFound", 404, "Port x could not be found.")
    assert body_of("/network/v2.0/x", neutron)["NeutronError"]["type"] == "PortNotFound"
    assert body_of("/network/v2.0/x", gone)["NeutronError"] == {"type": "HTTPNotFound", "message": said, "detail": ""}
    assert body_of("/placement/x", gone)["errors"][0]["request_id"] == "req-1"
    problem = body_of("/v1/x", gone)
    assert problem["reason"] == "not_found"
    assert (problem["status"], problem["detail"], problem["hint"]) == (404, "No such thing", "Look elsewhere")


def test_a_refusal_of_the_network_api_is_never_called_an_internal_error() -> None:
    def type_of(code: int) -> Any:
        return body_of("/network/v2.0/x", Rejected("no", code=code))["NeutronError"]["type"]

    assert type_of(422) == "HTTPUnprocessableEntity"
    assert type_of(418) == "HTTPBadRequest"
    assert "HTTPInternalServerError" not in {type_of(code) for code in range(400, 500)}
    assert type_of(500) == "HTTPInternalServerError"


@pytest.mark.parametrize("mount", [*sorted(MOUNTS), "", "nothing"])
@pytest.mark.parametrize("kind", [Invalid, Forbidden, NotFound, Conflict, Unavailable])
def test_every_refusal_has_its_status_everywhere(mount: str, kind: type[Rejected]) -> None:
    scope = {"type": "http", "path": f"/{mount}/x", "state": {}}
    response = errors.render(scope, kind("why"))
    assert response.status_code == kind.code
    assert b"why" in response.body


def test_errors_of_lower_rooms_are_refusals() -> None:
    doubt = errors.as_rejected(LogUnavailable("x", ambiguous=True))
    assert doubt is not None
    assert doubt.code == 503
    assert "not known" in doubt.hint
    missing = errors.as_rejected(HTTPException(404))
    assert missing is not None
    assert missing.code == 404
    assert errors.as_rejected(RuntimeError("a defect")) is None


def test_passwords() -> None:
    kept = hash_now("geheim ü")
    assert verify_now("geheim ü", kept)
    assert not verify_now("geheim u", kept)
    assert kept != hash_now("geheim ü")
    for bad in ("", "plain", "scrypt$1$2$3"):
        assert not verify_now("", bad)
    assert not verify_now("0" * 16, NOBODY)


async def test_of_two_processes_that_start_at_once_one_key_stays(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        loop = asyncio.get_running_loop()
        keys = await asyncio.gather(*(loop.run_in_executor(pool, load_keys, tmp_path) for _ in range(8)))
    token = keys[0].encrypt(b"x")
    assert all(one.decrypt(token) == b"x" for one in keys)
    path = tmp_path / "keys" / "tokens"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["tokens"]


@pytest.mark.parametrize(("given_", "version"), [(None, None), ("*", None), ('"7"', 7), ("7", 7), ('W/"7"', 7)])
def test_if_match(given_: str | None, version: int | None) -> None:
    assert version_of(given_) == version


@pytest.mark.parametrize("wrong", ["", '"x"', "-1", "1" * 30, "²"])
def test_if_match_that_is_no_version(wrong: str) -> None:
    with pytest.raises(Invalid):
        version_of(wrong)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["op", "path", "value", "add"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_patch_is_taken_or_refused(operations: Any) -> None:
    class Nobody:
        is_admin = False
        project_id = "p"

    try:
        changes = patched(Image(id="i"), operations, Nobody())  # type: ignore[arg-type]  # it asks a caller no more
    except Rejected:
        return
    assert "status" not in changes
