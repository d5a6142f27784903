"""The rows depend on the commits alone: not on batches, not on the database, not on being rebuilt."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.postgres_fixture import Postgres
from tests.projections_samples import LARGE, World, all_rows, fill, lively, spelled

COMMANDS = ["stop", "start", "pause", "unpause", "reboot-hard", "lock", "unlock", "delete", "resize", "shelve"]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A few servers, driven at random; what the machine refuses does not happen."""
    from domain.errors import Rejected

    world = World()
    ids = [world.create(f"s{number}") for number in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(0, 40))):
        id = draw(st.sampled_from(ids))
        act = draw(st.sampled_from(["step", "step", "step", "fail", "observe", "resource", *COMMANDS]))
        operation = world.servers[id].operation
        if act in ("step", "fail"):
            if operation is not None and not operation.stuck:
                world.step(id, host=draw(st.sampled_from(["host-1", "host-2"])), succeeded=act == "step")
        elif act == "observe":
            world.observe(id, draw(st.sampled_from(["running", "shutdown", "paused", "crashed"])))
        elif act == "resource":
            world.change("port", network_id="n", mac=f"fa:16:3e:00:00:{len(world.log) % 99:02}", project_id="p-demo")
        else:
            params = {"flavor": msgspec.to_builtins(LARGE)} if act == "resize" else {}
            try:
                world.do(id, act, **params)
            except Rejected:
                continue
    return world


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_rows_do_not_depend_on_how_commits_are_cut_into_batches(world: World, sizes: list[int]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        urls = [f"sqlite:///{folder}/{part}.db" for part in ("whole", "single", "cut")]
        for url, cut in zip(urls, ([len(world.log)], [1], sizes), strict=True):
            fill(url, world.log, cut)
        whole, single, cut_rows = (all_rows(url) for url in urls)
    assert single == whole
    assert cut_rows == whole


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_postgresql_holds_the_same_rows_as_sqlite(postgres: Postgres, world: World, sizes: list[int]) -> None:
    with TemporaryDirectory() as name:
        sqlite = f"sqlite:///{name}/rows.db"
        fill(sqlite, world.log)
        expected = all_rows(sqlite)
    url = postgres.database()
    fill(url, world.log, sizes)
    assert all_rows(url) == expected


def test_rows_hold_a_replacement_for_every_null_character(database_url: str, tmp_path: Path) -> None:
    world = lively()
    fill(database_url, spelled(world.log, rb"\u0000"), [1, 3])
    fill(f"sqlite:///{tmp_path}/replaced.db", spelled(world.log, "\ufffd".encode()))
    rows = all_rows(database_url)
    assert rows == all_rows(f"sqlite:///{tmp_path}/replaced.db")
    for name, held in rows.items():
        assert "\\ufffd" in ascii(held), name
        assert not any(null in ascii(held) for null in ("\\x00", "\\u0000")), name


def test_a_batch_that_was_applied_changes_nothing_when_it_comes_again(database_url: str) -> None:
    from projections.database import connect
    from projections.writer import Writer

    world = lively()
    fill(database_url, world.log)
    before = all_rows(database_url)
    engine = connect(database_url)
    writer = Writer(engine)
    assert writer.load() == len(world.log)
    assert writer.apply(world.log[-5:]) == len(world.log)
    writer.close()
    engine.dispose()
    assert all_rows(database_url) == before
    assert all(before.values()), "the sample leaves no table empty"
