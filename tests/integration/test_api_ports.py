"""Ports and the servers that have them: addresses, pairs, port security and groups, each shown on both sides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from api import compute, identity, network, v1
from tests.plane import Plane, running_plane

pytestmark = pytest.mark.asyncio(loop_scope="module")
V2, SERVERS = "/network/v2.0", "/compute/v2.1/servers"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    mounts = {"v1": v1, "identity": identity, "network": network, "compute": compute}
    async with running_plane(tmp_path_factory.mktemp("ports"), mounts) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(plane: Plane) -> AsyncIterator[httpx.AsyncClient]:
    async with plane.signed_in("demo") as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server_id(plane: Plane, demo: httpx.AsyncClient) -> str:
    found = await plane.create(demo, "wired")
    server = await plane.settled(found)
    assert server.vm_state == "active"
    return found


async def made(client: httpx.AsyncClient, kind: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(f"{V2}/{kind.replace('_', '-')}s", json={kind: fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()[kind]
    return found


async def changed(client: httpx.AsyncClient, port_id: str, **fields: Any) -> dict[str, Any]:
    answer = await client.put(f"{V2}/ports/{port_id}", json={"port": fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["port"]
    return found


async def refused(client: httpx.AsyncClient, port_id: str, **fields: Any) -> tuple[int, str]:
    answer = await client.put(f"{V2}/ports/{port_id}", json={"port": fields})
    return answer.status_code, answer.json()["NeutronError"]["type"]


async def port_of(client: httpx.AsyncClient, server_id: str) -> dict[str, Any]:
    (port,) = (await client.get(f"{V2}/ports", params={"device_id": server_id})).json()["ports"]
    return dict(port)


async def shown(client: httpx.AsyncClient, server_id: str) -> tuple[list[str], list[str]]:
    """The addresses and the groups of a server."""
    server = (await client.get(f"{SERVERS}/{server_id}")).json()["server"]
    addresses = [one["addr"] for network in server["addresses"].values() for one in network]
    return addresses, [one["name"] for one in server.get("security_groups", [])]


async def test_groups_of_a_server_are_those_of_its_ports(demo: httpx.AsyncClient, server_id: str) -> None:
    port = await port_of(demo, server_id)
    (default,) = (await demo.get(f"{V2}/security-groups", params={"name": "default"})).json()["security_groups"]
    assert port["security_groups"] == [default["id"]]
    web = await made(demo, "security_group", name="web")
    for action in ("addSecurityGroup", "addSecurityGroup"):  # the second changes nothing
        answer = await demo.post(f"{SERVERS}/{server_id}/action", json={action: {"name": "web"}})
        assert answer.status_code == 202, answer.text
    assert (await port_of(demo, server_id))["security_groups"] == [default["id"], web["id"]]
    await changed(demo, port["id"], security_groups=[web["id"]])
    assert (await shown(demo, server_id))[1] == ["web"]
    path = f"{V2}/security-groups/{web['id']}"
    for name in ("www", "web"):
        assert (await demo.put(path, json={"security_group": {"name": name}})).status_code == 200
        assert (await shown(demo, server_id))[1] == [name]
    body = {"type": "remove-security-group", "server_id": server_id, "params": {"group": "web"}}
    assert (await demo.post("/v1/commands", json=body)).status_code == 202
    assert (await port_of(demo, server_id))["security_groups"] == []
    await changed(demo, port["id"], security_groups=[default["id"]])
    assert (await shown(demo, server_id))[1] == ["default"]


async def test_port_security_and_address_pairs_exclude_each_other(demo: httpx.AsyncClient, server_id: str) -> None:
    port = await port_of(demo, server_id)
    groups = port["security_groups"]
    pairs = [{"ip_address": "10.1.9.9"}, {"ip_address": "10.5.0.0/16", "mac_address": "fa:16:3e:00:00:09"}]
    now = await changed(demo, port["id"], allowed_address_pairs=pairs)
    assert now["allowed_address_pairs"] == [pairs[0] | {"mac_address": port["mac_address"]}, pairs[1]]
    off = {"port_security_enabled": False}
    assert await refused(demo, port["id"], **off) == (409, "PortSecurityPortHasSecurityGroup")
    assert await refused(demo, port["id"], **off, security_groups=[]) == (409, "AddressPairAndPortSecurityRequired")
    now = await changed(demo, port["id"], **off, security_groups=[], allowed_address_pairs=[])
    assert now["port_security_enabled"] is False
    twice = [{"ip_address": "10.1.9.9"}] * 2
    back = {"port_security_enabled": True, "security_groups": groups}
    found = await refused(demo, port["id"], **back, allowed_address_pairs=twice)
    assert found == (400, "DuplicateAddressPairInRequest")
    assert (await changed(demo, port["id"], **back))["security_groups"] == groups


async def test_addresses_of_a_port_change_and_its_server_shows_them(
    plane: Plane, demo: httpx.AsyncClient, server_id: str
) -> None:
    port = await port_of(demo, server_id)
    (first,) = port["fixed_ips"]
    wanted = [first, {"ip_address": "10.1.77.7"}]
    now = await changed(demo, port["id"], fixed_ips=wanted, name="two")
    assert (now["name"], [one["ip_address"] for one in now["fixed_ips"]]) == ("two", [first["ip_address"], "10.1.77.7"])
    assert (await shown(demo, server_id))[0] == [first["ip_address"], "10.1.77.7"]
    assert await refused(demo, port["id"], fixed_ips=[{"ip_address": "10.9.0.1"}]) == (400, "InvalidIpForNetwork")
    other = await made(demo, "port", network_id=plane.ids["network"], fixed_ips=[{"ip_address": "10.1.77.8"}])
    taken = [first, {"ip_address": "10.1.77.8"}]
    assert await refused(demo, port["id"], fixed_ips=taken) == (409, "IpAddressAlreadyAllocated")
    await changed(demo, port["id"], fixed_ips=[first])
    again = await changed(demo, other["id"], fixed_ips=[{"ip_address": "10.1.77.7"}])
    assert again["fixed_ips"][0]["ip_address"] == "10.1.77.7"  # it was given back
    assert (await shown(demo, server_id))[0] == [first["ip_address"]]


async def test_an_address_is_added_to_a_server_and_removed(
    plane: Plane, demo: httpx.AsyncClient, server_id: str
) -> None:
    path = f"{SERVERS}/{server_id}/action"
    before, _ = await shown(demo, server_id)
    added = await demo.post(path, json={"addFixedIp": {"networkId": plane.ids["network"]}})
    assert added.status_code == 202, added.text
    (new,) = set((await shown(demo, server_id))[0]) - set(before)
    assert new in {one["ip_address"] for one in (await port_of(demo, server_id))["fixed_ips"]}
    assert (await demo.post(path, json={"removeFixedIp": {"address": new}})).status_code == 202
    assert (await shown(demo, server_id))[0] == before
    assert (await demo.post(path, json={"removeFixedIp": {"address": new}})).status_code == 400
    nowhere = await demo.post(path, json={"addFixedIp": {"networkId": "nowhere"}})
    assert nowhere.status_code == 404


async def test_a_server_made_with_a_port_has_its_groups(plane: Plane, demo: httpx.AsyncClient) -> None:
    group = await made(demo, "security_group", name="own")
    port = await made(demo, "port", network_id=plane.ids["network"], security_groups=[group["id"]])
    body = {"name": "with-port", "flavorRef": "1", "imageRef": plane.ids["image"], "networks": [{"port": port["id"]}]}
    headers = {"OpenStack-API-Version": "compute 2.96"}
    answer = await demo.post(SERVERS, json={"server": body}, headers=headers)
    assert answer.status_code == 202, answer.text
    server_id = answer.json()["server"]["id"]
    await plane.settled(server_id)
    assert (await shown(demo, server_id))[1] == ["own"]
    more = await made(demo, "port", network_id=plane.ids["network"])
    attached = await demo.post(
        f"{SERVERS}/{server_id}/os-interface", json={"interfaceAttachment": {"port_id": more["id"]}}
    )
    assert attached.status_code == 200, attached.text
    newest = await plane.services.log.last("server", server_id)
    assert newest is not None
    assert plane.services.read._horizon.expected >= newest.position  # the next read waits for what was answered
    assert (await shown(demo, server_id))[1] == ["own", "default"]
    again = await demo.post(SERVERS, json={"server": body}, headers=headers)
    assert again.status_code == 409
    assert "still in use" in again.text


async def test_addresses_that_are_not_there_are_refused_in_novas_words(plane: Plane, demo: httpx.AsyncClient) -> None:
    server_id = await plane.create(demo, "late")
    small = await made(demo, "network", name="small")
    await made(demo, "subnet", network_id=small["id"], cidr="10.77.0.0/30", ip_version=4)
    last = await made(demo, "port", network_id=small["id"])
    address = last["fixed_ips"][0]["ip_address"]
    path = f"{SERVERS}/{server_id}/os-interface"
    full = await demo.post(path, json={"interfaceAttachment": {"net_id": small["id"]}})
    assert full.status_code == 400, full.text
    assert full.json()["badRequest"]["message"].startswith(
        f"No fixed IP addresses available for network: {small['id']}"
    )
    asked = {"net_id": small["id"], "fixed_ips": [{"ip_address": address}]}
    used = await demo.post(path, json={"interfaceAttachment": asked})
    assert (used.status_code, f"{address} is already in use" in used.text) == (409, True)
    network = {"uuid": small["id"], "fixed_ip": address}
    body = {"name": "x", "flavorRef": "1", "imageRef": plane.ids["image"], "networks": [network]}
    created = await demo.post(SERVERS, json={"server": body})
    assert (created.status_code, f"{address} is already in use" in created.text) == (400, True)
    network = {"uuid": "00000000-0000-0000-0000-00000000dead"}
    nowhere = await demo.post(SERVERS, json={"server": body | {"networks": [network]}})
    assert (nowhere.status_code, "could not be found" in nowhere.text) == (400, True)
    server = await plane.settled(server_id)
    assert (server.vm_state, len(server.interfaces)) == ("active", 1)


async def test_self_made_addresses_follow_the_mac(demo: httpx.AsyncClient) -> None:
    net = await made(demo, "network", name="six")
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    subnet = await made(demo, "subnet", network_id=net["id"], cidr="fd00:77::/64", ip_version=6, **modes)
    assert {key: subnet[key] for key in modes} == modes
    port = await made(demo, "port", network_id=net["id"], mac_address="fa:16:3e:00:00:77")
    assert [one["ip_address"] for one in port["fixed_ips"]] == ["fd00:77::f816:3eff:fe00:77"]
    assert await refused(demo, port["id"], fixed_ips=[{"ip_address": "fd00:77::5"}]) == (
        400,
        "AllocationOnAutoAddressSubnet",
    )
    body = {"network_id": net["id"], "cidr": "fd00:78::/48", "ip_version": 6, **modes}
    assert (await demo.post(f"{V2}/subnets", json={"subnet": body})).status_code == 400
    changed_mode = await demo.put(f"{V2}/subnets/{subnet['id']}", json={"subnet": {"ipv6_ra_mode": None}})
    assert changed_mode.status_code == 400
