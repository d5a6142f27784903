"""The pools of a subnet: every usable address once, never the gateway."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import NeutronError
from api.network.cidr import default_pools, gateway_of, network_of, pools_of
from domain.errors import Invalid, Rejected


@given(st.integers(0, 2**32 - 1), st.integers(20, 30), st.data())
def test_default_pools_hold_every_address_but_three(base: int, prefix: int, data: st.DataObject) -> None:
    cidr = network_of(f"{ipaddress.ip_address(base)}/{prefix}", 4)
    gateway = str(cidr[data.draw(st.integers(1, cidr.num_addresses - 2))])
    held = set()
    for start, end in default_pools(cidr, gateway):
        held |= set(range(int(ipaddress.ip_address(start)), int(ipaddress.ip_address(end)) + 1))
    everything = set(range(int(cidr[0]), int(cidr[-1]) + 1))
    assert everything - held == {int(cidr[0]), int(cidr[-1]), int(ipaddress.ip_address(gateway))}


def test_the_gateway_is_the_first_address_unless_told_otherwise() -> None:
    cidr = network_of("10.0.0.9/24", None)
    assert str(cidr) == "10.0.0.0/24"
    assert gateway_of({}, cidr) == "10.0.0.1"
    assert gateway_of({"gateway_ip": None}, cidr) is None
    assert gateway_of({"gateway_ip": "10.0.0.254"}, cidr) == "10.0.0.254"
    with pytest.raises(NeutronError):
        gateway_of({"gateway_ip": "10.0.1.1"}, cidr)


@pytest.mark.parametrize(
    "pools",
    [
        "x",
        [],
        [{}],
        [{"start": "10.0.0.9"}],
        [{"start": "10.0.0.9", "end": "10.0.0.2"}],
        [{"start": "10.0.0.1", "end": "10.0.0.9"}],
        [{"start": "10.0.0.2", "end": "10.0.0.9"}, {"start": "10.0.0.9", "end": "10.0.0.20"}],
        [{"start": "10.0.1.2", "end": "10.0.1.9"}],
        [{"start": 1, "end": 2}],
    ],
)
def test_pools_that_are_refused(pools: object) -> None:
    with pytest.raises(Rejected):
        pools_of({"allocation_pools": pools}, network_of("10.0.0.0/24", 4), "10.0.0.1")


@given(st.text(max_size=40))
def test_any_text_is_a_network_or_refused(text: str) -> None:
    try:
        network_of(text, None)
    except Invalid:
        return
