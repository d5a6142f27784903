"""Where settings come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli import rundir
from cli.errors import Stop
from cli.keys import secret
from cli.main import main
from cli.options import KNOWN
from cli.preflight import split
from cli.settings import build, read_config
from cli.supervisor import MAX_LOG_BYTES, bound_log
from cli.up import host_names, split_address
from commands.settings import CommandSettings


def test_tables_take_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.toml"
    config.write_text("hosts = 3\n[commands]\ngrace_seconds = 5\ndeadline_seconds = 9\n")
    monkeypatch.setenv("CHRONOVA_COMMANDS_GRACE_SECONDS", "1.5")
    monkeypatch.setenv("CHRONOVA_DRIVER_LATENCY", '{"spawn": 1}')
    values, tables = read_config(config, KNOWN)
    assert values == {"hosts": 3}
    assert tables.driver == {"latency": {"spawn": 1}}
    settings = build(CommandSettings, tables.commands, "commands", images_dir=tmp_path)
    assert (settings.grace_seconds, settings.deadline_seconds, settings.images_dir) == (1.5, 9.0, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(("hsts = 2", "hsts"), ("commands = 2", "has to be a table"), ("hosts = ", "not TOML")),
        *(("driver = 2", "driver 2 is none of auto, libvirt"), ('[driver]\nkind = "kvm"', "driver 'kvm' is none of")),
    ],
)
def test_what_a_file_can_not_mean_is_refused(text: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(click.UsageError, match=said):
        read_config(config, KNOWN)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ('driver = "simulated"\nhosts = 2', {}),
        ('hosts = 2\n[driver]\nkind = "simulated"\nlatency = 1', {"latency": 1}),
    ],
    ids=["alone", "beside its options"],
)
def test_the_driver_may_be_chosen_in_the_file(text: str, options: dict[str, object], tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    values, tables = read_config(config, KNOWN)
    assert (values, tables.driver) == ({"driver": "simulated", "hosts": 2}, options)


@pytest.mark.parametrize(
    "table",
    [
        *({"grace_second": 1}, {"grace_seconds": "soon"}, {"images_dir": "/elsewhere"}),
        *(
            {"reclaim_seconds": -5},
            {"deadline_seconds": -0.1},
            {"conflict_retries": -1},
            {"shelved_offload_seconds": -2},
        ),
        *({"grace_seconds": float("nan")}, {"reclaim_seconds": float("inf")}),
        *({"unclaimed_seconds": 0}, {"unclaimed_seconds": 0.9}),
    ],
    ids=str,
)
def test_a_table_with_a_wrong_key_or_value_is_refused(table: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=rf"\[commands\].* {next(iter(table))}"):
        build(CommandSettings, table, "commands", images_dir=tmp_path)


def test_a_least_that_is_not_0_is_said_and_allowed() -> None:
    with pytest.raises(click.UsageError, match=r"unclaimed_seconds: 0 can not be: it has to be 1 or more"):
        build(CommandSettings, {"unclaimed_seconds": 0}, "commands")
    assert build(CommandSettings, {"unclaimed_seconds": 1}, "commands").unclaimed_seconds == 1


def test_what_stays_until_told_is_minus_one() -> None:
    settings = build(CommandSettings, {"shelved_offload_seconds": -1, "deadline_seconds": None}, "commands")
    assert (settings.shelved_offload_seconds, settings.deadline_seconds) == (-1, None)
    assert not settings.shelved_offload


@pytest.mark.parametrize(
    "text",
    [
        *("[commands]\nnonsense = 1", "[commands]\nreclaim_seconds = -5", "[api]\nnonsense = 1"),
        *("[driver]\nnonsense = 1", '[driver]\nuri = "qemu:///system"'),
    ],
)
def test_up_refuses_a_table_before_anything_starts(text: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    words = ["up", "--config", str(config), "--data", str(tmp_path / "data"), "--driver", "simulated"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    assert text.splitlines()[0] in done.output
    assert text.splitlines()[1].split()[0] in done.output
    assert not (tmp_path / "data").exists()


def test_addresses() -> None:
    assert split_address("127.0.0.1:8774") == ("127.0.0.1", 8774)
    assert split_address("[::1]:0") == ("::1", 0)
    assert split_address(":80") == ("127.0.0.1", 80)
    for wrong in ("localhost", "1.2.3.4:", "1.2.3.4:port", "1.2.3.4:70000"):
        with pytest.raises(Stop) as stop:
            split_address(wrong)
        assert stop.value.code == 2
    assert host_names(2) == ["host-1", "host-2"]
    assert split("nats://a:1, nats://b:2") == ("nats://a:1", "nats://b:2")


def test_a_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = secret(tmp_path, "nats-control")
    assert len(first) == 44
    assert secret(tmp_path, "nats-control") == first
    assert secret(tmp_path, "nats-agents") != first
    assert (tmp_path / "keys" / "nats-control").stat().st_mode & 0o777 == 0o600


def test_one_start_per_data_directory(tmp_path: Path) -> None:
    lock = rundir.DataLock.take(tmp_path)
    with pytest.raises(Stop, match="already runs"):
        rundir.DataLock.take(tmp_path)
    lock.release()
    rundir.DataLock.take(tmp_path).release()


def test_a_log_is_bounded_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "control.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * (MAX_LOG_BYTES + 1))
        bound_log(log)
        writer.write(b"next")
    assert log.read_bytes() == b"next"
    assert (tmp_path / "control.log.1").stat().st_size == MAX_LOG_BYTES + 1
