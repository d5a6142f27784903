"""A read model that is behind the log says so: in a header, and on every page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
import pytest_asyncio

from api import lag
from api.lag import Lag, lag_of
from tests.deployment import WAIT_SECONDS, Deployment, running_api
from tests.eventlog_samples import append, new_id

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def behind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """A running API whose projector has ended, and two commits that it did not see."""
    async with running_api(tmp_path_factory.mktemp("lag")) as running:
        known = await running.services.log.last_position()
        assert await running.services.read.wait_for(known, 60)
        await running.projecting.aclose()
        for _ in range(2):
            await append(running.services.log, new_id(), None)
        yield running


@pytest.fixture(autouse=True)
def _as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is shown without it when the log does not say it within a second."""
    monkeypatch.setattr(lag, "LOOK_SECONDS", WAIT_SECONDS)


async def test_what_is_missing_for_long_is_told(behind: Deployment) -> None:
    services = behind.services
    oldest = await services.log.at(services.read.position + 1)
    assert oldest is not None
    assert oldest.recorded_at is not None
    young, old = (oldest.recorded_at + timedelta(seconds=late) for late in (1, 60))
    assert await lag_of(services, young) is None
    assert await lag_of(services, old) == Lag(2, oldest.recorded_at)


async def test_every_page_says_so(behind: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "LATE_SECONDS", -3600.0)
    token = (await behind.sign_in("admin")).headers["x-subject-token"]
    async with behind.client() as client:
        client.cookies.set("chronova_token", token)
        pages = [(await client.get(path)).text for path in ("/ui/", "/ui/hosts", "/ui/machine")]
    assert all("lacks the newest 2 commits of the log" in page for page in pages)


async def test_what_is_read_names_its_position(behind: Deployment) -> None:
    async with behind.signed_in("demo") as client:
        paths = ("/compute/v2.1/servers/detail", f"/compute/v2.1/servers/{new_id()}", "/v1/servers")
        answers: list[httpx.Response] = [await client.get(path) for path in paths]
    known = await behind.services.log.last_position() - 2
    assert [answer.headers.get("x-log-position") for answer in answers] == [str(known), str(known), str(known)]
