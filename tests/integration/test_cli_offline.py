"""The commands that work on the log itself, on a stopped system whose log is on a NATS of somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import preflight, rundir
from cli.main import main
from eventlog.nats_server import EmbeddedNats
from tests.ports import free_ports
from tests.running import running

pytestmark = pytest.mark.xdist_group("chronova up")


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    with EmbeddedNats.start(tmp_path_factory.mktemp("apart"), sync_interval=None) as server:
        yield server


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, nats: EmbeddedNats) -> Path:
    """A data directory on which a system with `--nats` ran."""
    data = tmp_path_factory.mktemp("offline") / "data"
    with running(data, "--nats", nats.url, "--hosts", "1") as system, system.client() as client:
        system.create_server(client, "web")
    return data


def run(data: Path, *words: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [*map(str, words), "--data", str(data)], env=env)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("replay", "--verify"), "every row of the read models equals"),
        (("audit", "verify"), "all holds"),
        (("stuck", "list"), "nothing is stuck"),
    ],
    ids=["replay", "audit", "stuck"],
)
def test_the_log_is_found_where_the_last_start_had_it(stopped: Path, words: tuple[str, ...], told: str) -> None:
    done = run(stopped, *words)
    assert told in done.output
    assert done.exit_code == 0


@pytest.mark.parametrize("how", ["option", "environment", "config"])
def test_the_log_is_found_where_it_is_told_to_be(stopped: Path, nats: EmbeddedNats, tmp_path: Path, how: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'nats = "{nats.url}"\n')
    new = tmp_path / "new"
    new.mkdir()
    words = {"option": ("--nats", nats.url), "environment": (), "config": ("--config", str(config))}[how]
    done = run(new, "audit", "verify", *words, env={"CHRONOVA_NATS": nats.url} if how == "environment" else None)
    assert "all holds" in done.output
    assert done.exit_code == 0


def test_a_noted_nats_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "NATS_SECONDS", 0.2)
    port = free_ports(1)[0]
    rundir.write_json(
        rundir.last_log_path(tmp_path), {"nats": [f"nats://me:secret@127.0.0.1:{port}"], "database": None}
    )
    done = run(tmp_path, "audit", "verify")
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
    assert f"no NATS server answers at 127.0.0.1:{port} (Connection refused): start it, or name another" in done.output
    assert "secret" not in done.output


def test_a_nats_without_a_log_gets_none_by_being_looked_at(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with EmbeddedNats.start(tmp_path / "other", sync_interval=None) as other:
        for _ in range(2):
            done = run(data, "audit", "verify", "--nats", other.url)
            assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
            assert "there is no log at this NATS server" in done.output


def test_another_log_than_that_of_the_running_system_is_refused(
    stopped: Path, nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = {"nats": [nats.url], "pids": {}, "database": f"sqlite:///{stopped}/read-models.db"}
    monkeypatch.setattr(rundir, "running", lambda data: note)
    refused = run(tmp_path, "replay", "--nats", "nats://127.0.0.1:1")
    assert (refused.exit_code, "with another log than --nats names" in refused.output) == (1, True), refused.output
    same = run(tmp_path, "audit", "verify", "--nats", nats.url)
    assert (same.exit_code, "all holds" in same.output) == (0, True), same.output


def test_wrong_usage_is_told_in_one_line() -> None:
    for words in (["bogus"], ["up", "--bogus"], ["show"], ["machine", "--format", "x"], ["audit", "verify", "a", "b"]):
        told = CliRunner().invoke(main, words)
        assert told.exit_code == 2, told.output
        assert told.output.startswith("chronova: ")
        assert told.output.count("\n") == 1
