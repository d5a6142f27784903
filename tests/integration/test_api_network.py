"""Network v2.0 on a running API: addresses that never collide, visibility, security groups, quotas."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.deployment import Deployment, running_api

pytestmark = pytest.mark.asyncio(loop_scope="module")
V2 = "/network/v2.0"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with running_api(tmp_path_factory.mktemp("network")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("demo") as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("other") as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def admin(api: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    async with api.signed_in("admin") as client:
        yield client


async def made(client: httpx.AsyncClient, kind: str, collection: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(f"{V2}/{collection}", json={kind: fields})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()[kind]
    return found


async def network_of(client: httpx.AsyncClient, cidr: str) -> tuple[str, str]:
    network = await made(client, "network", "networks", name=cidr)
    subnet = await made(client, "subnet", "subnets", network_id=network["id"], cidr=cidr, ip_version=4)
    return network["id"], subnet["id"]


def neutron_type(answer: httpx.Response) -> str:
    found: str = answer.json()["NeutronError"]["type"]
    return found


async def test_the_private_network_is_there_for_everybody(demo: httpx.AsyncClient) -> None:
    (network,) = (await demo.get(f"{V2}/networks", params={"name": "private"})).json()["networks"]
    assert network["shared"] is True
    (subnet,) = (await demo.get(f"{V2}/subnets", params={"network_id": network["id"]})).json()["subnets"]
    assert (subnet["cidr"], subnet["gateway_ip"]) == ("10.90.0.0/16", "10.90.0.1")
    port = await made(demo, "port", "ports", network_id=network["id"])
    (address,) = port["fixed_ips"]
    assert ipaddress.ip_address(address["ip_address"]) in ipaddress.ip_network(subnet["cidr"])
    assert (await demo.delete(f"{V2}/ports/{port['id']}")).status_code == 204


async def test_a_full_subnet_gives_each_address_once_and_again_after_release(demo: httpx.AsyncClient) -> None:
    network_id, _ = await network_of(demo, "10.1.0.0/28")
    body = {"port": {"network_id": network_id}}
    answers = await asyncio.gather(*(demo.post(f"{V2}/ports", json=body) for _ in range(15)))
    ports = [one.json()["port"] for one in answers if one.status_code == 201]
    refused = [one for one in answers if one.status_code != 201]
    assert len(ports) == 13  # 16 less network, broadcast and gateway
    assert len({port["fixed_ips"][0]["ip_address"] for port in ports}) == 13
    assert {(one.status_code, neutron_type(one)) for one in refused} == {(409, "IpAddressGenerationFailure")}
    assert (await demo.delete(f"{V2}/ports/{ports[3]['id']}")).status_code == 204
    again = await demo.post(f"{V2}/ports", json=body)
    assert again.json()["port"]["fixed_ips"] == ports[3]["fixed_ips"]
    in_use = await demo.delete(f"{V2}/networks/{network_id}")
    assert (in_use.status_code, neutron_type(in_use)) == (409, "NetworkInUse")


async def test_an_attribute_that_neutron_does_not_know_is_refused(demo: httpx.AsyncClient) -> None:
    network_id, subnet_id = await network_of(demo, "10.41.0.0/24")
    port = await made(demo, "port", "ports", network_id=network_id)
    for kind, id_, needed in (
        ("network", network_id, {}),
        ("subnet", subnet_id, {"network_id": network_id, "cidr": "10.42.0.0/24"}),
        ("port", port["id"], {"network_id": network_id}),
    ):
        url, wrong = f"{V2}/{kind}s", needed | {"nmae": "x"}
        before = (await demo.get(url)).json()
        for answer in (
            await demo.post(url, json={kind: wrong}),
            await demo.post(url, json={f"{kind}s": [needed, wrong]}),
            await demo.put(f"{url}/{id_}", json={kind: {"name": "new", "nmae": "x"}}),
        ):
            assert (answer.status_code, neutron_type(answer)) == (400, "HTTPBadRequest")
            assert "Unrecognized attribute(s) 'nmae'" in answer.text
        assert (await demo.get(url)).json() == before


async def test_wanted_addresses(demo: httpx.AsyncClient) -> None:
    network_id, subnet_id = await network_of(demo, "10.2.0.0/24")
    wanted = {"subnet_id": subnet_id, "ip_address": "10.2.0.77"}
    port = await made(demo, "port", "ports", network_id=network_id, fixed_ips=[wanted])
    assert port["fixed_ips"] == [wanted]
    for fixed_ips, status, type_ in (
        ([wanted], 409, "IpAddressAlreadyAllocated"),
        ([{"ip_address": "10.3.0.1"}], 400, "InvalidIpForNetwork"),
        ([{"subnet_id": subnet_id, "ip_address": "10.3.0.1"}], 400, "InvalidIpForSubnet"),
        ([{"ip_address": 7}], 400, "HTTPBadRequest"),
        ("10.2.0.7", 400, "HTTPBadRequest"),
    ):
        answer = await demo.post(f"{V2}/ports", json={"port": {"network_id": network_id, "fixed_ips": fixed_ips}})
        assert (answer.status_code, neutron_type(answer)) == (status, type_), fixed_ips
    found = await demo.get(f"{V2}/ports", params={"fixed_ips": "ip_address=10.2.0.77", "fields": "id"})
    assert found.json()["ports"] == [{"id": port["id"]}]
    subnet_in_use = await demo.delete(f"{V2}/subnets/{subnet_id}")
    assert neutron_type(subnet_in_use) == "SubnetInUse"
    bare = await made(demo, "port", "ports", network_id=network_id, fixed_ips=[])
    assert bare["fixed_ips"] == []


async def test_mac_addresses(demo: httpx.AsyncClient) -> None:
    network_id, _ = await network_of(demo, "10.4.0.0/24")
    mac = "fa:16:3e:00:00:01"
    assert (await made(demo, "port", "ports", network_id=network_id, mac_address=mac))["mac_address"] == mac
    again = await demo.post(f"{V2}/ports", json={"port": {"network_id": network_id, "mac_address": mac}})
    assert (again.status_code, neutron_type(again)) == (409, "MacAddressInUse")
    bad = await demo.post(f"{V2}/ports", json={"port": {"network_id": network_id, "mac_address": "01:00:5e:00:00:01"}})
    assert bad.status_code == 400


async def test_projects_see_their_own(demo: httpx.AsyncClient, other: httpx.AsyncClient, api: Deployment) -> None:
    network_id, subnet_id = await network_of(demo, "10.5.0.0/24")
    port = await made(demo, "port", "ports", network_id=network_id)
    for path, type_ in (
        (f"networks/{network_id}", "NetworkNotFound"),
        (f"subnets/{subnet_id}", "SubnetNotFound"),
        (f"ports/{port['id']}", "PortNotFound"),
    ):
        for method in ("GET", "DELETE"):
            answer = await other.request(method, f"{V2}/{path}")
            assert (answer.status_code, neutron_type(answer)) == (404, type_)
    assert (await other.post(f"{V2}/ports", json={"port": {"network_id": network_id}})).status_code == 404
    listed = (await other.get(f"{V2}/networks")).json()["networks"]
    assert [one["name"] for one in listed] == ["private"]
    shared = listed[0]["id"]
    assert (await other.put(f"{V2}/networks/{shared}", json={"network": {"name": "x"}})).status_code == 403
    assert (await other.delete(f"{V2}/networks/{shared}")).status_code == 403
    assert (await other.post(f"{V2}/networks", json={"network": {"shared": True}})).status_code == 403
    async with api.signed_in("reader") as reader:
        assert (await reader.get(f"{V2}/ports/{port['id']}")).status_code == 200
        assert (await reader.delete(f"{V2}/ports/{port['id']}")).status_code == 403
        assert (await reader.post(f"{V2}/networks", json={"network": {}})).status_code == 403


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"cidr": "10.6.0.0/33"}, 400),
        ({"cidr": "nonsense"}, 400),
        ({"cidr": 5}, 400),
        ({}, 400),
        ({"cidr": "10.6.0.0/24", "ip_version": 6}, 400),
        ({"cidr": "10.6.0.0/24", "gateway_ip": "10.7.0.1"}, 400),
        ({"cidr": "10.6.0.0/24", "allocation_pools": [{"start": "10.6.0.9", "end": "10.6.0.2"}]}, 400),
        ({"cidr": "10.6.0.0/24", "allocation_pools": [{"start": "10.6.0.1", "end": "10.6.0.9"}]}, 409),
        ({"cidr": "10.6.0.0/24", "dns_nameservers": ["x"]}, 400),
        ({"cidr": "2001:db8::/64", "ip_version": 6}, 201),
        ({"cidr": "10.6.0.0/24", "gateway_ip": None}, 201),
    ],
)
async def test_subnets_are_checked(demo: httpx.AsyncClient, fields: dict[str, Any], status: int) -> None:
    network = await made(demo, "network", "networks", name="checked")
    answer = await demo.post(f"{V2}/subnets", json={"subnet": {"network_id": network["id"], **fields}})
    assert answer.status_code == status, answer.text
    if status == 201:
        again = await demo.post(f"{V2}/subnets", json={"subnet": {"network_id": network["id"], **fields}})
        assert "overlaps" in again.text
    assert (await demo.delete(f"{V2}/networks/{network['id']}")).status_code == 204


async def test_security_groups(demo: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    for _ in range(2):
        (default,) = (await demo.get(f"{V2}/security-groups", params={"name": "default"})).json()["security_groups"]
        assert len(default["security_group_rules"]) == 4
    group = await made(demo, "security_group", "security-groups", name="web")
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
    rule |= {"port_range_min": 80, "port_range_max": 80}
    first = await made(demo, "security_group_rule", "security-group-rules", **rule)
    same = await demo.post(f"{V2}/security-group-rules", json={"security_group_rule": rule})
    assert (same.status_code, neutron_type(same)) == (409, "SecurityGroupRuleExists")
    for wrong in (
        {"port_range_min": 90},
        {"protocol": "magic"},
        {"protocol": "icmpv6"},
        {"protocol": "icmp", "port_range_min": None},
        {"remote_ip_prefix": "x"},
        {"direction": "up"},
    ):
        answer = await demo.post(f"{V2}/security-group-rules", json={"security_group_rule": rule | wrong})
        assert answer.status_code == 400, wrong
    assert (await other.get(f"{V2}/security-group-rules/{first['id']}")).status_code == 404
    assert (await demo.get(f"{V2}/security-group-rules/{first['id']}")).status_code == 200
    network_id, _ = await network_of(demo, "10.8.0.0/24")
    port = await made(demo, "port", "ports", network_id=network_id, security_groups=[group["id"]])
    in_use = await demo.delete(f"{V2}/security-groups/{group['id']}")
    assert (in_use.status_code, neutron_type(in_use)) == (409, "SecurityGroupInUse")
    assert (await demo.delete(f"{V2}/ports/{port['id']}")).status_code == 204
    assert (await demo.delete(f"{V2}/security-group-rules/{first['id']}")).status_code == 204
    other_group = await made(demo, "security_group", "security-groups", name="db")
    remote = {"security_group_id": other_group["id"], "direction": "ingress", "remote_group_id": group["id"]}
    remote_rule = await made(demo, "security_group_rule", "security-group-rules", **remote)
    assert (await demo.delete(f"{V2}/security-groups/{group['id']}")).status_code == 204
    assert (await demo.get(f"{V2}/security-group-rules/{remote_rule['id']}")).status_code == 404  # it names nobody now
    assert (await demo.delete(f"{V2}/security-groups/{default['id']}")).status_code == 409


async def test_lists_honour_marker_limit_tags_and_sorting(demo: httpx.AsyncClient) -> None:
    for number in range(4):
        network = await made(demo, "network", "networks", name=f"page-{number}")
        answer = await demo.put(f"{V2}/networks/{network['id']}/tags", json={"tags": ["paged"]})
        assert answer.json() == {"tags": ["paged"]}
    params = {"tags": "paged", "sort_key": "name", "sort_dir": "desc", "limit": "3"}
    first = (await demo.get(f"{V2}/networks", params=params)).json()
    assert [one["name"] for one in first["networks"]] == ["page-3", "page-2", "page-1"]
    rest = (await demo.get(first["networks_links"][0]["href"])).json()
    assert [one["name"] for one in rest["networks"]] == ["page-0"]
    assert "networks_links" not in rest
    assert (await demo.get(f"{V2}/networks", params={"not-tags": "paged", "name": "page-1"})).json()["networks"] == []


async def test_quotas(admin: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    project = (await other.get("/identity/v3/projects")).json()["projects"][0]["id"]
    assert (await other.put(f"{V2}/quotas/{project}", json={"quota": {"network": 9}})).status_code == 403
    changed = await admin.put(f"{V2}/quotas/{project}", json={"quota": {"network": 1}})
    assert changed.json()["quota"]["network"] == 1
    await made(other, "network", "networks", name="one")
    over = await other.post(f"{V2}/networks", json={"network": {"name": "two"}})
    assert (over.status_code, neutron_type(over)) == (409, "OverQuota")
    details = (await other.get(f"{V2}/quotas/{project}/details.json")).json()["quota"]["network"]
    assert details == {"limit": 1, "used": 1, "reserved": 0}
    assert (await admin.delete(f"{V2}/quotas/{project}")).status_code == 204
    assert (await other.get(f"{V2}/quotas/{project}")).json()["quota"]["network"] == 100


async def test_what_is_not_there_says_so(demo: httpx.AsyncClient) -> None:
    assert (await demo.get(f"{V2}/routers")).json() == {"routers": []}
    assert (await demo.get(f"{V2}/floatingips")).json() == {"floatingips": []}
    assert (await demo.post(f"{V2}/floatingips", json={"floatingip": {}})).status_code == 501
    assert neutron_type(await demo.get(f"{V2}/routers/x")) == "RouterNotFound"
    assert (await demo.get(f"{V2}/extensions/tag-ports-during-bulk-creation")).status_code == 404
    assert (await demo.get(f"{V2}/extensions/security-group")).status_code == 200
