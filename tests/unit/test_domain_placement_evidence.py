"""What a commit keeps of a placement."""

from __future__ import annotations

from domain.scheduling import WEIGHTS_KEPT, Dropped, Placement


def test_the_heaviest_hosts_and_every_dropped_one_are_kept() -> None:
    weights = {f"host-{number}": float(number) for number in range(WEIGHTS_KEPT + 30)}
    dropped = tuple(Dropped(f"full-{number}", "DISK_GB", "1 GB", "0 of 1 GB") for number in range(WEIGHTS_KEPT + 30))
    evidence = Placement("host-49", weights, dropped).evidence()
    assert list(evidence["weights"].values()) == sorted(weights.values(), reverse=True)[:WEIGHTS_KEPT]
    assert [one["host"] for one in evidence["dropped"]] == [one.host for one in dropped]
