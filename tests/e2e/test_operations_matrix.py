"""docs/operations-matrix.md says what the end-to-end tests have seen: each operation on each driver."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.circumstances import CIRCUMSTANCES, HASTY
from tests.life import MARKS, World
from tests.operations import DOCUMENT, OPERATIONS, document, tried, tried_hastily
from tests.running import running
from tests.seen import PASSED

pytestmark = MARKS

SEEN: dict[str, dict[str, str]] = {}


@pytest.mark.parametrize("driver", ["libvirt-test", "simulated"])
def test_every_operation_goes_through_or_is_refused(driver: str, tmp_path: Path) -> None:
    with running(tmp_path / "data", "--driver", driver) as system, closing(World(system)) as world:
        seen = tried(world)
    (tmp_path / "chronova.toml").write_text(HASTY)
    options = ("--driver", driver, "--config", str(tmp_path / "chronova.toml"))
    with running(tmp_path / "hasty", *options) as system:
        SEEN[driver] = seen | tried_hastily(system)
    assert SEEN[driver]["create"] == SEEN[driver]["delete"] == "yes"


def test_the_document_is_what_was_seen(request: pytest.FixtureRequest) -> None:
    missing = ({one.proof for one in OPERATIONS} | {one.proof for one in CIRCUMSTANCES}) - PASSED
    if missing or len(SEEN) < 2:
        pytest.skip(f"the whole suite has to run in one process and pass: not seen are {', '.join(sorted(missing))}")
    if request.config.getoption("--write-operations"):
        DOCUMENT.write_text(document(SEEN))
    assert DOCUMENT.read_text() == document(SEEN), "run pytest --write-operations tests/e2e"
