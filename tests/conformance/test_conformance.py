"""Every recorded answer of Nova is ours too, or differs for a written reason."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.conformance.report import DOCUMENT, Result, render, run

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("conformance"),  # one run serves all of it
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def result(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Result]:
    yield await run(tmp_path_factory.mktemp("conformance"))


async def test_every_recorded_case_was_tried(result: Result) -> None:
    assert result.missing == {}
    assert result.untried == 0


async def test_no_difference_is_without_a_reason(result: Result) -> None:
    assert not result.unexplained, "\n".join(map(str, result.unexplained))


async def test_every_reason_covers_something(result: Result) -> None:
    assert [one.name for one in result.unused] == []


async def test_the_document_shows_this_result(result: Result) -> None:
    shown = DOCUMENT.read_text()
    assert shown == render(result), "run `python -m tests.conformance.report --write`"
