"""What a command line can be told is wrong with it before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import preflight
from cli.main import main
from tests.ports import free_ports


def run(data: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "--data", str(data)])


@pytest.fixture
def shut_port() -> int:
    return free_ports(1)[0]


@pytest.mark.parametrize(
    "words",
    [
        ("up", "--database", "nonsense"),
        ("up", "--database", "mysql://root@localhost/x"),
        ("up", "--nats", "http://localhost"),
        ("up", "--nats", "nats://localhost:none"),
        ("up", "--nats-sync", "never"),
        ("up", "--nats-sync", "-5"),
        ("up", "--nats-sync", "0s"),
        ("api", "--nats", "nats://localhost", "--database", "nonsense"),
        ("events", "--from", "-1"),
    ],
)
def test_a_value_that_is_none_is_wrong_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path / "data", *words)
    assert done.exit_code == 2, done.output
    assert words[-2] in done.output
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("role", [("up",), ("conductor",), ("agent", "--host", "h")])
def test_a_nats_that_does_not_answer_is_told(
    tmp_path: Path, shut_port: int, role: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "NATS_SECONDS", 0.2)
    done = run(tmp_path / "data", *role, "--nats", f"nats://me:secret@127.0.0.1:{shut_port}")
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
    assert f"no NATS server answers at 127.0.0.1:{shut_port} (Connection refused)" in done.output
    assert "secret" not in done.output


def test_a_database_that_does_not_answer_is_told(tmp_path: Path, shut_port: int) -> None:
    done = run(tmp_path / "data", "up", "--database", f"postgresql://me:secret@127.0.0.1:{shut_port}/x")
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
    assert "no database answers" in done.output
    assert "secret" not in done.output


def test_no_directory_is_made_for_a_database(tmp_path: Path) -> None:
    done = run(tmp_path / "data", "up", "--database", f"sqlite:///{tmp_path}/none/x.db")
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("words", [("--database", "sqlite:////proc/x.db"), ("--archive", "/proc/x")])
def test_a_place_that_can_not_be_written_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path / "data", "up", *words)
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
    assert "/proc" in done.output
    assert f"mend {words[0]}" in done.output
    assert not (tmp_path / "data").exists()
