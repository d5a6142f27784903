"""Which attributes the network API takes: every one that a client of Neutron may send, and no other."""

from __future__ import annotations

from typing import Any

import pytest
from openstack.network.v2.network import Network
from openstack.network.v2.port import Port
from openstack.network.v2.subnet import Subnet

from api.errors import NeutronError
from api.network.attributes import must_be_known

# What openstackclient sets though the SDK's classes do not name it.
CLIENT = {"subnet": {"leak_routes"}, "port": {"hints"}}


@pytest.mark.parametrize(("kind", "cls"), [("network", Network), ("subnet", Subnet), ("port", Port)])
def test_what_the_sdk_knows_is_taken(kind: str, cls: Any) -> None:
    names = {"tenant_id", *cls._body_mapping(), *CLIENT.get(kind, ())}
    assert {"name", "network_id" if kind != "network" else "mtu"} <= names
    must_be_known(kind, [dict.fromkeys(names)])


@pytest.mark.parametrize("kind", ["network", "subnet", "port"])
def test_what_nobody_knows_is_named(kind: str) -> None:
    with pytest.raises(NeutronError, match=r"^Unrecognized attribute\(s\) 'colour, nmae'$") as refused:
        must_be_known(kind, [{"name": "x"}, {"nmae": "x", "name": "y", "colour": 1}])
    assert (refused.value.code, refused.value.type) == (400, "HTTPBadRequest")


def test_other_kinds_are_not_looked_at() -> None:
    must_be_known("security_group", [{"nmae": "x"}])
