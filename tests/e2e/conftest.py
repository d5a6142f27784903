"""One system with real guests for all end-to-end tests of a server's life."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.life import World, living


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living(tmp_path_factory.mktemp("life") / "data") as world:
        yield world
