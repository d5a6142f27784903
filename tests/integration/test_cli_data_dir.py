"""The data directory of `chronova up`: refused before anything is written, closed to others, left in peace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli import data_dir, options
from cli.errors import Stop
from eventlog.log import DEFAULT_STREAM
from projections.database import ReadModelUnavailable, connect, version_of
from tests.running import chronova, running

pytestmark = pytest.mark.xdist_group("chronova up")
SIMULATED = ("up", "--driver", "simulated", "--listen", "127.0.0.1:0")


def test_no_name_is_no_directory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli.main", *SIMULATED, "--data", ""],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2, done.stderr
    assert "--data" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_directory_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    done = chronova(*SIMULATED, data=tmp_path)
    assert done.returncode == 1
    assert "something else (passwd)" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["passwd"]


def test_an_address_that_is_taken_or_a_ready_file_without_a_place_makes_no_directory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = chronova("up", "--driver", "simulated", "--listen", address, data=tmp_path / "data")
    assert done.returncode == 1
    assert address in done.stderr
    done = chronova(*SIMULATED, "--ready-file", tmp_path / "no" / "such" / "ready.json", data=tmp_path / "data")
    assert done.returncode == 2
    assert f"there is no directory {tmp_path}/no/such" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ours", ["nats/jetstream", "keys/secrets", "agents/host-1/journal.db", "read-models.db"])
def test_a_directory_of_before_there_was_a_mark_is_known_by_what_it_holds(tmp_path: Path, ours: str) -> None:
    (tmp_path / "notes of its owner").touch()
    with pytest.raises(Stop, match="notes of its owner"):
        data_dir.claim(tmp_path)
    (tmp_path / ours).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / ours).touch()
    data_dir.claim(tmp_path)
    (tmp_path / ours).unlink()
    data_dir.claim(tmp_path)  # it is marked now


@pytest.mark.parametrize("brought", ["keys", "archive", "lost+found"])
def test_parts_that_were_brought_along_are_no_reason_to_refuse(tmp_path: Path, brought: str) -> None:
    (tmp_path / brought).mkdir()
    data_dir.claim(tmp_path)
    assert (tmp_path / data_dir.MARK).exists()


@pytest.mark.parametrize(
    "name",
    ["read-models.db", "lock", "clouds.yaml", "keys/nats-control", "logs/control.log", "agents/journal.db"],
)
def test_a_file_that_is_a_directory_is_told_before_anything_starts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(Stop, match=f"{name} has to be a file and is none: move it away"):
        data_dir.must_be_usable(tmp_path)
    (tmp_path / name).rmdir()
    (tmp_path / name).touch()
    data_dir.must_be_usable(tmp_path)


@pytest.mark.parametrize("name", ["nats", "keys", "run", "agents/host-1"])
def test_a_directory_that_is_a_file_is_told_before_anything_starts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(Stop, match=f"{name} has to be a directory and is none: move it away"):
        data_dir.must_be_usable(tmp_path)


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root may do everything, so root is somebody else for a moment."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


@pytest.mark.parametrize("name", [".", "nats", "read-models.db"])
def test_what_may_not_be_written_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # somebody else may not pass the directories above it
    data = Path("data")
    (data / "nats").mkdir(parents=True)
    (data / "read-models.db").touch()
    for path in (data, *data.iterdir()):
        path.chmod(0o777)
    (data / name).chmod(0o555)
    with somebody_else(), pytest.raises(Stop, match=f"may not read and write {data / name}: run this as its owner"):
        data_dir.must_be_usable(data)


def test_a_read_model_that_is_a_directory_is_told_in_one_line(tmp_path: Path) -> None:
    data_dir.claim(tmp_path)
    file = tmp_path / "read-models.db"
    file.mkdir()
    (tmp_path / "nats" / "jetstream").mkdir(parents=True)
    for words in (SIMULATED, ("replay",)):
        done = chronova(*words, data=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert f"{file} " in done.stderr
        assert "has to be a file" in done.stderr
    engine = connect(f"sqlite:///{file}")  # as every role looks for it
    with pytest.raises(ReadModelUnavailable, match="has to be a file and is none: move it away"):
        version_of(engine)
    engine.dispose()


@pytest.fixture
def hangups_count() -> Iterator[None]:
    """A test run under `nohup` hands down that hangups are ignored, which `up` respects."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_count")
def test_a_directory_that_others_could_read_is_closed_and_a_hangup_is_a_stop(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "agents" / "host-1").mkdir(parents=True)
    (data / "read-models.db").touch()
    for path in (data / "agents", data / "agents" / "host-1", data / "read-models.db"):
        path.chmod(0o755)
    with running(data) as system:
        system.process.send_signal(signal.SIGHUP)
        assert system.process.wait(60) == 0
        assert "chronova: stopped" in system.process.communicate()[0]
    made = [path for path in data.rglob("*") if not path.is_relative_to(data / "agents" / "host-1")]
    assert not [path for path in made if path.name != data_dir.MARK and path.stat().st_mode & 0o077]


def test_an_interrupt_while_a_command_is_imported_shows_no_traceback() -> None:
    # A test run in the background of a shell hands down that interrupts are ignored. This one comes in the middle.
    program = (
        "import sys; sys.argv[0] = '/bin/chronova'\n"
        "import cli, os, signal; os.kill(os.getpid(), signal.SIGINT); import cli.main; cli.main.main()"
    )
    command = ["env", "--default-signal=INT", sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("left", "named"),
    [("archive/00000000000000000001.open", "archive of the log"), ("agents/h/guests/g/record.json", "guests")],
)
def test_a_log_that_is_gone_is_not_begun_anew_beside_what_speaks_of_it(tmp_path: Path, left: str, named: str) -> None:
    (tmp_path / left).parent.mkdir(parents=True)
    (tmp_path / left).touch()
    done = chronova(*SIMULATED, data=tmp_path)
    assert done.returncode == 1
    assert named in done.stderr
    assert f"audit restore {tmp_path}/archive" in done.stderr
    assert not (tmp_path / "nats").exists()


def test_the_stream_that_is_looked_for_is_the_logs() -> None:
    assert data_dir.LOG_STREAM == DEFAULT_STREAM


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user for a moment")
def test_what_a_user_may_not_use_is_named_with_what_to_do(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)

    @click.command()
    @options.command
    def reads(**_: object) -> None:
        os.seteuid(65534)
        try:
            secret.read_text()
        finally:
            os.seteuid(0)

    done = CliRunner().invoke(reads)
    assert done.exit_code == 1
    assert f"may not use {secret}" in done.output
    assert "run this as the user who runs `chronova up`" in done.output
