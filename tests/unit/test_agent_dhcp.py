"""The agent's DHCP answers: only to guests it knows, with what their port says."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from domain.orders import AddressSpec, NicSpec
from hypervisor_agent.libvirt.dhcp import ACK, DISCOVER, HEADER, OFFER, REQUEST, answer_to

MAC = "fa:16:3e:00:00:07"
NIC = NicSpec(
    "port", "network", MAC, (AddressSpec("10.9.0.7", 24, "10.9.0.1", ("10.9.0.2", "fd00::2"), 4),), 1450
)  # fmt: skip


def question(kind: int, mac: str = MAC, op: int = 1) -> bytes:
    chaddr = bytes.fromhex(mac.replace(":", "")) + bytes(10)
    empty = bytes(4)
    header = HEADER.pack(
        op, 1, 6, 0, 0xABCD, 0, 0x8000, empty, empty, empty, empty, chaddr, bytes(64), bytes(128), b"\x63\x82\x53\x63"
    )
    return header + bytes([53, 1, kind, 255])


def find(mac: str) -> NicSpec | None:
    return NIC if mac == MAC else None


@pytest.mark.parametrize(("asked", "told"), [(DISCOVER, OFFER), (REQUEST, ACK)])
def test_a_known_guest_gets_its_port_s_address(asked: int, told: int) -> None:
    answer = answer_to(question(asked), find)
    assert answer is not None
    fields = HEADER.unpack_from(answer)
    assert (fields[0], fields[4], fields[6]) == (2, 0xABCD, 0x8000)
    assert str(ipaddress.IPv4Address(fields[8])) == "10.9.0.7"
    options = answer[HEADER.size :]
    assert bytes([53, 1, told]) in options
    assert bytes([1, 4, 255, 255, 255, 0]) in options
    assert bytes([3, 4, 10, 9, 0, 1]) in options
    assert bytes([6, 4, 10, 9, 0, 2]) in options
    assert bytes([26, 2]) + struct.pack("!H", 1450) in options
    assert options[-1] == 255


def test_everybody_else_is_met_with_silence() -> None:
    assert answer_to(question(DISCOVER, "fa:16:3e:00:00:08"), find) is None
    assert answer_to(question(DISCOVER, op=2), find) is None
    assert answer_to(question(7), find) is None
    assert answer_to(b"", find) is None
    assert answer_to(question(DISCOVER)[: HEADER.size - 1], find) is None
    assert answer_to(question(DISCOVER)[: HEADER.size], find) is None
