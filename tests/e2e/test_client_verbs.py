"""Every verb of the `openstack` client that a server's life needs, typed as users type them: with names, with `--wait`.

docs/client-verbs.md says which were typed and what they answered; `pytest --write-operations` writes it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import entry_points

import httpx
import pytest

from tests.client_shell import Answer, Shell
from tests.client_verbs import ADMINISTRATOR, DOCUMENT, NOT_TYPED, PATIENT_SCRIPT, SCRIPT, Answers, Typed, document
from tests.running import Running, chronova, running, until

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("client verbs")]  # the script is typed once for all

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMdDfumvTJleEpgohqYY5dq5xicytjjNcPMO3x54cKzp me@here"


class Typist:
    """Types lines into the client, each when what the lines before it began has ended.

    A client's process keeps the cloud and the version that it was first asked with, so each of those has its own.
    """

    def __init__(self, system: Running, api: httpx.Client, stack: ExitStack) -> None:
        self._api = api
        self._clouds_yaml = system.ready["clouds_yaml"]
        self._stack = stack
        self._shells: dict[tuple[str, str], Shell] = {}

    def type(self, typed: Typed, **known: str) -> Answer:
        _wait_until_quiet(self._api)
        line = typed.line
        for name, value in known.items():
            line = line.replace(f"{{{name}}}", value)
        for server in _servers(self._api):
            line = line.replace(f"{{id:{server['name']}}}", server["id"])
        if "{request}" in line:
            line = line.replace("{request}", self._newest_request())
        words = shlex.split(line)
        version = words[1] if words[0] == "--os-compute-api-version" else ""
        key = (typed.cloud, version)
        if key not in self._shells:
            self._shells[key] = Shell(self._clouds_yaml)
            self._stack.callback(self._shells[key].close)
        return self._shells[key].run(["--os-cloud", typed.cloud, *words])

    def _newest_request(self) -> str:
        first = next(one["id"] for one in _servers(self._api) if one["name"] == "first")
        found = self._api.get(f"/compute/v2.1/servers/{first}/os-instance-actions").json()["instanceActions"]
        return str(found[0]["request_id"])


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("verbs") / "data") as system:
        yield system


@pytest.fixture(scope="module")
def answers(system: Running, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The whole script."""
    files = tmp_path_factory.mktemp("files")
    (files / "key.pub").write_text(KEY)
    (files / "disk.raw").write_bytes(b"a disk" * 100)
    with system.client(ADMINISTRATOR) as api, ExitStack() as stack:
        typist = Typist(system, api, stack)
        return [(typed, typist.type(typed, files=str(files))) for typed in SCRIPT]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The script about servers that are only soft-deleted, where they are."""
    folder = tmp_path_factory.mktemp("patient")
    (folder / "chronova.toml").write_text("[commands]\nreclaim_seconds = 86400\n")
    options = ("--config", str(folder / "chronova.toml"))
    with running(folder / "data", *options) as system, system.client(ADMINISTRATOR) as api, ExitStack() as stack:
        typist = Typist(system, api, stack)
        return [(typed, typist.type(typed)) for typed in PATIENT_SCRIPT]


def _servers(api: httpx.Client) -> list[dict[str, str]]:
    """Those that are soft-deleted, too: a list has them only for who asks for them."""
    pages = [
        api.get(f"/compute/v2.1/servers/detail?all_tenants=1{more}").json()["servers"]
        for more in ("", "&status=SOFT_DELETED")
    ]
    return [one for page in pages for one in page]


def _wait_until_quiet(api: httpx.Client) -> None:
    def quiet() -> bool:
        volumes = api.get("/volume/v3/volumes/detail?all_tenants=1").json()["volumes"]
        volumes += api.get("/volume/v3/snapshots/detail?all_tenants=1").json()["snapshots"]
        moving = {"creating", "attaching", "detaching", "deleting", "extending", "reverting"}
        states = [one["OS-EXT-STS:task_state"] for one in _servers(api)]
        busy = [one for one in api.get("/v1/servers?limit=1000").json()["servers"] if one.get("operation")]
        return not any(states) and not busy and not moving & {one["status"] for one in volumes}

    until(quiet, "nothing is in progress")


def test_every_verb_answers_as_it_should(answers: Answers, patient: Answers) -> None:
    wrong = [
        f"openstack {typed.line}: {answer.code} {answer.complained or answer.said}"
        for typed, answer in [*answers, *patient]
        if (answer.code != 0) != bool(typed.refused) or (typed.refused and typed.refused not in answer.complained)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_verb_of_the_client_is_left_out() -> None:
    verbs = {one.name.replace("_", " ") for one in entry_points(group="openstack.compute.v2")}
    lines = [typed.line.rpartition("2.78 ")[2].rpartition("2.43 ")[2] for typed in SCRIPT]
    left = {
        verb
        for verb in verbs
        if verb.startswith("server") and not any(f"{line} ".startswith(f"{verb} ") for line in lines)
    }
    assert left == NOT_TYPED


def test_the_history_of_the_server_is_complete_and_true(answers: Answers, system: Running) -> None:
    told = next(answer.told for typed, answer in answers if typed.line.startswith("server event list -f json"))
    done = [one["Action"] for one in reversed(told)]
    expected = [action for typed, _ in answers for action in typed.actions]
    assert done == expected
    found = chronova("audit", "verify", data=system.data)
    assert found.returncode == 0, found.stdout + found.stderr


def test_soft_deleted_servers_are_restored_or_deleted_at_once(patient: Answers) -> None:
    shown = [answer.said for typed, answer in patient if typed.line.startswith("server show")]
    assert [status in text for status, text in zip(("SOFT_DELETED", "ACTIVE"), shown, strict=True)] == [True, True]
    assert "first" not in patient[-1][1].said


def test_the_document_says_what_was_typed(answers: Answers, patient: Answers, request: pytest.FixtureRequest) -> None:
    text = document(answers, patient)
    if request.config.getoption("--write-operations"):
        DOCUMENT.write_text(text)
    assert DOCUMENT.read_text() == text, "run pytest --write-operations tests/e2e/test_client_verbs.py"
