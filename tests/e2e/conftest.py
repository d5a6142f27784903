"""One system with real guests for all end-to-end tests of a server's life, and one with a browser for the viewer's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.life import World, living
from tests.viewer import browser, open_page, site

__all__ = ["browser", "open_page", "site", "world"]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with living(tmp_path_factory.mktemp("life") / "data") as world:
        yield world
