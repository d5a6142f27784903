"""Every verb of the `openstack` client that a server's life needs, typed as users type them: with names, with `--wait`.

docs/client-verbs.md says which were typed and what they answered; `pytest --write-operations` writes it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.client_shell import Answer, Shell
from tests.client_verbs import ADMINISTRATOR, DOCUMENT, MEMBER, SCRIPT, Typed, document
from tests.running import Running, chronova, running, until

pytestmark = pytest.mark.timeout(600)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMdDfumvTJleEpgohqYY5dq5xicytjjNcPMO3x54cKzp me@here"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("verbs") / "data") as system:
        yield system


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "key.pub").write_text(KEY)
    (folder / "disk.raw").write_bytes(b"a disk" * 100)
    return folder


@pytest.fixture(scope="module")
def shells(system: Running) -> Iterator[dict[str, Shell]]:
    shells = {cloud: Shell(system.ready["clouds_yaml"]) for cloud in (MEMBER, ADMINISTRATOR)}
    yield shells
    for shell in shells.values():
        shell.close()


@pytest.fixture(scope="module")
def api(system: Running) -> Iterator[httpx.Client]:
    with system.client(ADMINISTRATOR) as client:
        yield client


@pytest.fixture(scope="module")
def answers(shells: dict[str, Shell], api: httpx.Client, files: Path) -> list[tuple[Typed, Answer]]:
    """The whole script, each line typed when what the lines before it began has ended."""
    found = []
    for typed in SCRIPT:
        _wait_until_quiet(api)
        line = typed.line.replace("{files}", str(files))
        for server in _servers(api):
            line = line.replace(f"{{id:{server['name']}}}", server["id"])
        answer = shells[typed.cloud].run(["--os-cloud", typed.cloud, *shlex.split(line)])
        found.append((typed, answer))
    return found


def _servers(api: httpx.Client) -> list[dict[str, str]]:
    found: list[dict[str, str]] = api.get("/compute/v2.1/servers/detail?all_tenants=1").json()["servers"]
    return found


def _wait_until_quiet(api: httpx.Client) -> None:
    def quiet() -> bool:
        volumes = api.get("/volume/v3/volumes/detail?all_tenants=1").json()["volumes"]
        moving = {"creating", "attaching", "detaching", "deleting"}
        states = [one["OS-EXT-STS:task_state"] for one in _servers(api)]
        busy = [one for one in api.get("/v1/servers?limit=1000").json()["servers"] if one.get("operation")]
        return not any(states) and not busy and not moving & {one["status"] for one in volumes}

    until(quiet, "nothing is in progress")


def test_every_verb_answers_as_it_should(answers: list[tuple[Typed, Answer]]) -> None:
    wrong = [
        f"openstack {typed.line}: {answer.code} {answer.complained or answer.said}"
        for typed, answer in answers
        if (answer.code != 0) != bool(typed.refused) or (typed.refused and typed.refused not in answer.complained)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_history_of_the_server_is_complete_and_true(answers: list[tuple[Typed, Answer]], system: Running) -> None:
    told = next(answer.told for typed, answer in answers if typed.line.startswith("server event list -f json"))
    done = [one["Action"] for one in reversed(told)]
    expected = [action for typed, _ in answers for action in typed.actions]
    assert done == expected
    found = chronova("audit", "verify", data=system.data)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_document_says_what_was_typed(answers: list[tuple[Typed, Answer]], request: pytest.FixtureRequest) -> None:
    text = document(answers)
    if request.config.getoption("--write-operations"):
        DOCUMENT.write_text(text)
    assert DOCUMENT.read_text() == text, "run pytest --write-operations tests/e2e/test_client_verbs.py"


def test_soft_deleted_servers_are_restored_or_deleted_at_once(tmp_path: Path) -> None:
    (tmp_path / "chronova.toml").write_text("[commands]\nreclaim_seconds = 86400\n")
    with (
        running(tmp_path / "data", "--config", str(tmp_path / "chronova.toml")) as system,
        closing(Shell(system.ready["clouds_yaml"])) as shell,
    ):

        def typed(line: str) -> Answer:
            answer = shell.run(["--os-cloud", MEMBER, *shlex.split(line)])
            assert answer.code == 0, answer.complained
            return answer

        def status(wanted: str) -> None:
            until(lambda: typed("server show -f json kept").told["status"] == wanted, f"kept is {wanted}")

        typed("server create --image tiny --flavor m1.nano --nic none --wait kept")
        id_ = typed("server show -f json kept").told["id"]
        typed("server delete kept")
        until(lambda: typed(f"server show -f json {id_}").told["status"] == "SOFT_DELETED", "it is soft-deleted")
        typed(f"server restore {id_}")
        status("ACTIVE")
        typed("server delete --force --wait kept")
        assert typed("server list -f json").told == []
