"""Who disables a host, and who may enable it again."""

import pytest

from commands.troubles import change_for
from domain.resources import Host

BY_OPERATOR = {"disabled": True, "disabled_reason": "new disks"}
BY_ITSELF = {"disabled": True, "disabled_reason": "AUTO: disk full"}
WELL = {"disabled": False, "disabled_reason": None}


@pytest.mark.parametrize(
    ("now", "trouble", "changes"),
    [
        (WELL, "", {}),
        (WELL, "disk full", BY_ITSELF),
        (BY_ITSELF, "disk full", {}),
        (BY_ITSELF, "disk gone", {"disabled": True, "disabled_reason": "AUTO: disk gone"}),
        (BY_ITSELF, "", WELL),
        (BY_OPERATOR, "disk full", {}),
        (BY_OPERATOR, "", {}),
    ],
)
def test_what_changes(now: dict[str, object], trouble: str, changes: dict[str, object]) -> None:
    assert change_for(Host(id="h", name="host-1", **now), trouble) == changes  # type: ignore[arg-type]  # plain values
