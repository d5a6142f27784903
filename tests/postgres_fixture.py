"""A real PostgreSQL for tests: a private cluster in a temporary directory, on a Unix socket, gone with the session.

Needs Debian's package `postgresql` (its programs lie outside PATH). initdb refuses to run as root, so under root the
cluster belongs to the account `postgres` that the package made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

START_SECONDS = 60


class Postgres:
    """A running cluster. `database()` makes an empty database and gives its URL."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self._folder}"

    def database(self) -> str:
        name = f"test_{uuid4().hex}"
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"create database {name}"))
        engine.dispose()
        return self.url(name)


def programs() -> Path | None:
    """The folder of PostgreSQL's programs: the newest that is installed."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in found), key=lambda path: float(path.parent.name), default=None)


def _run(*command: str | Path) -> None:
    as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_owner, *map(str, command)], cwd="/", capture_output=True, text=True, timeout=2 * START_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    bin = programs()
    if bin is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # Not pytest's own directory, which only its owner may enter; and short, for the path of a socket has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="chronova-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        _run(bin / "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "-D", data)
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off -c shared_buffers=32MB"
        control = bin / "pg_ctl"
        _run(control, "start", "-w", "-t", str(START_SECONDS), "-D", data, "-l", data / "log", "-o", options)
        try:
            yield Postgres(folder)
        finally:
            _run(control, "stop", "-m", "immediate", "-D", data)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, on each of the two kinds in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/read-model.db"
    cluster: Postgres = request.getfixturevalue("postgres")
    return cluster.database()
