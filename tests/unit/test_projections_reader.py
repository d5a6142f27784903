"""Reading while the database is away is told as that, so that the API answers 503 and not 500."""

from __future__ import annotations

import pytest

from api.errors import as_rejected
from projections.database import ReadModelUnavailable, connect
from projections.reader import Reader


async def test_a_database_that_can_not_be_reached_is_unavailable() -> None:
    reader = Reader(connect("postgresql://nobody@127.0.0.1:1/none"))  # where nobody listens
    with pytest.raises(ReadModelUnavailable, match="does not answer") as away:
        await reader.large(lambda connection: connection.rows("select 1", ()))
    refusal = as_rejected(away.value)
    assert refusal is not None
    assert refusal.code == 503
    reader.close()
