"""libvirt tells one change by several events; whichever is looked at first must give the same reason."""

from __future__ import annotations

import libvirt as lv
import pytest

from domain.orders import PowerStateName
from hypervisor_agent.libvirt.events import leads_to, reason_of


@pytest.mark.parametrize(
    ("event", "detail", "before", "reason"),
    [
        (lv.VIR_DOMAIN_EVENT_RESUMED, 0, "shutdown", "started outside chronova"),
        (lv.VIR_DOMAIN_EVENT_STARTED, 0, "shutdown", "started outside chronova"),
        (lv.VIR_DOMAIN_EVENT_RESUMED, 0, "paused", "unpaused outside chronova"),
        (lv.VIR_DOMAIN_EVENT_SHUTDOWN, lv.VIR_DOMAIN_EVENT_SHUTDOWN_HOST, "running", "stopped outside chronova"),
        (lv.VIR_DOMAIN_EVENT_STOPPED, lv.VIR_DOMAIN_EVENT_STOPPED_DESTROYED, "running", "stopped outside chronova"),
        (lv.VIR_DOMAIN_EVENT_SHUTDOWN, lv.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST, "running", "guest powered itself off"),
        (lv.VIR_DOMAIN_EVENT_STOPPED, lv.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, "running", "guest powered itself off"),
        (lv.VIR_DOMAIN_EVENT_PMSUSPENDED, 0, "running", "changed outside chronova"),
    ],
)
def test_reasons(event: int, detail: int, before: PowerStateName, reason: str) -> None:
    assert reason_of(event, detail, before) == reason


def test_an_event_tells_only_of_the_state_it_leads_to() -> None:
    """One that is looked at late finds the guest as a newer event left it, which has its own reason."""
    assert leads_to(lv.VIR_DOMAIN_EVENT_STARTED, "running")
    assert not leads_to(lv.VIR_DOMAIN_EVENT_STARTED, "paused")
    assert leads_to(lv.VIR_DOMAIN_EVENT_SUSPENDED, "paused")
    assert not leads_to(lv.VIR_DOMAIN_EVENT_SUSPENDED, "running")
    assert leads_to(lv.VIR_DOMAIN_EVENT_STOPPED, "suspended")
    assert not leads_to(lv.VIR_DOMAIN_EVENT_STOPPED, "running")
    assert leads_to(lv.VIR_DOMAIN_EVENT_UNDEFINED, "nostate")
    assert not leads_to(lv.VIR_DOMAIN_EVENT_DEFINED, "paused")
    assert leads_to(lv.VIR_DOMAIN_EVENT_PMSUSPENDED, "paused")
