"""Ports and their addresses.

An address is an aggregate of its own, named by subnet and address: taking it is one conditional append, so two ports
can never hold one, whoever asks wherever. A port takes its addresses first and is recorded after; a port id that was
asked for before finds what it took then, so doing it twice takes nothing twice.
"""

from __future__ import annotations

import ipaddress
import random
from typing import Any, cast
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from commands.context import CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from domain.errors import Conflict, Invalid, NotFound
from domain.resources import Address, Network, Port, Subnet

PROBES = 32  # random addresses tried before the free ones are counted


def address_id(subnet_id: str, address: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"{subnet_id}/{address}"))


def mac_of(port_id: str) -> str:
    """The MAC address of a port: Neutron's prefix and 24 bits of the port's id, so it never changes."""
    tail = uuid5(NAMESPACE_OID, port_id).bytes[:3]
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in tail)


class _Pool:
    """The addresses that a subnet hands out by itself."""

    def __init__(self, subnet: Subnet) -> None:
        network = ipaddress.ip_network(subnet.cidr)
        pools = subnet.allocation_pools or ((str(network[1]), str(network[-2])),)
        self.ranges = [(int(ipaddress.ip_address(low)), int(ipaddress.ip_address(high))) for low, high in pools]
        self.kind = type(network[0])
        self.gateway = subnet.gateway_ip

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)

    def at(self, index: int) -> str:
        for low, high in self.ranges:
            if index <= high - low:
                return str(self.kind(low + index))
            index -= high - low + 1
        raise IndexError(index)


async def allocate_port(
    commands: Commands,
    read: Lookup,
    *,
    network_id: str,
    context: CommandContext,
    project_id: str | None = None,
    fixed_ips: list[dict[str, str]] | None = None,
    port_id: str | None = None,
    mac: str | None = None,
    device_id: str = "",
    device_owner: str = "",
    binding_host: str = "",
    name: str = "",
    **fields: Any,
) -> Port:
    """A new port with its addresses: those asked for (`subnet_id`, `ip_address`, both optional), or one a family."""
    network = await commands.load("network", network_id)
    if not isinstance(network, Network):
        raise NotFound(f"Network {network_id} could not be found.")
    port_id = port_id or str(uuid4())
    existing = await commands.load("port", port_id)
    if existing is not None:
        return cast(Port, existing)
    subnets = [cast(Subnet, one) for one in await read.resources("subnet", where={"network_id": network_id})]
    taken: list[dict[str, str]] = []
    try:
        for subnet, wanted in _wanted(network, subnets, fixed_ips):
            address = await _take(commands, read, subnet, wanted, port_id, context)
            taken.append({"address": address, "subnet_id": subnet.id})
        port = await commands.create(
            "port",
            {
                "name": name,
                "network_id": network_id,
                "project_id": project_id or context.actor.project_id,
                "mac": mac or mac_of(port_id),
                "fixed_ips": taken,
                "device_id": device_id,
                "device_owner": device_owner,
                "binding_host": binding_host,
                "status": "ACTIVE" if binding_host else "DOWN",
                **fields,
            },
            context,
            id=port_id,
        )
    except BaseException:
        for one in taken:
            await _give_back(commands, one["subnet_id"], one["address"], port_id, context)
        raise
    return cast(Port, port)


def _wanted(
    network: Network, subnets: list[Subnet], fixed_ips: list[dict[str, str]] | None
) -> list[tuple[Subnet, str | None]]:
    """Which subnets give an address, and which address where one was named."""
    if fixed_ips is None:
        families: dict[int, Subnet] = {}
        for subnet in sorted(subnets, key=lambda one: (str(one.created_at), one.id)):
            families.setdefault(subnet.ip_version, subnet)
        return [(subnet, None) for subnet in families.values()]
    by_id = {subnet.id: subnet for subnet in subnets}
    wanted: list[tuple[Subnet, str | None]] = []
    for one in fixed_ips:
        address = one.get("ip_address")
        if one.get("subnet_id"):
            found = by_id.get(one["subnet_id"])
            if found is None:
                raise Invalid(f"Subnet {one['subnet_id']} is not on network {network.id}.", reason="subnet")
        else:
            found = next((subnet for subnet in subnets if address and _inside(address, subnet)), None)
            if found is None:
                raise Invalid(
                    f"IP address {address} is not a valid IP for any of the subnets on the specified network.",
                    reason="InvalidIpForNetwork",
                )
        if address is not None and not _inside(address, found):
            raise Invalid(
                f"IP address {address} is not a valid IP for the specified subnet.", reason="InvalidIpForSubnet"
            )
        wanted.append((found, address))
    return wanted


def _inside(address: str, subnet: Subnet) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(subnet.cidr)
    except ValueError:
        return False


async def _take(
    commands: Commands, read: Lookup, subnet: Subnet, wanted: str | None, port_id: str, context: CommandContext
) -> str:
    if wanted is not None:
        if await _claim(commands, subnet.id, str(ipaddress.ip_address(wanted)), port_id, context):
            return str(ipaddress.ip_address(wanted))
        raise Conflict(
            f"IP address {wanted} already allocated in subnet {subnet.id}", reason="IpAddressAlreadyAllocated"
        )
    pool = _Pool(subnet)
    chance = random.Random(UUID(port_id).int)  # the same port looks at the same addresses when it is asked again
    for _ in range(PROBES):
        address = pool.at(chance.randrange(len(pool)))
        if address != pool.gateway and await _claim(commands, subnet.id, address, port_id, context):
            return address
    known = [cast(Address, one) for one in await read.resources("address", where={"subnet_id": subnet.id})]
    used = {one.address for one in known if one.port_id}
    for index in range(min(len(pool), 1 << 16)):
        address = pool.at(index)
        if address in used or address == pool.gateway:
            continue
        if await _claim(commands, subnet.id, address, port_id, context):
            return address
    raise Conflict(
        f"No more IP addresses available on network {subnet.network_id}.",
        hint="Delete unused ports or add a subnet.",
        reason="IpAddressGenerationFailure",
    )


async def _claim(commands: Commands, subnet_id: str, address: str, port_id: str, context: CommandContext) -> bool:
    id_ = address_id(subnet_id, address)
    held = await commands.load("address", id_)
    if isinstance(held, Address) and held.port_id is not None:
        return held.port_id == port_id
    fields = {"name": address, "subnet_id": subnet_id, "address": address, "port_id": port_id}
    try:
        if held is None:
            await commands.create("address", fields, context, id=id_, verb="allocate", visible=False)
        else:
            await commands.update(
                "address", id_, {"port_id": port_id}, context, verb="allocate", check=_only_free, visible=False
            )
    except Conflict:
        return False
    return True


def _only_free(state: Any) -> None:
    if state.port_id is not None:
        raise Conflict(f"IP address {state.address} is held by port {state.port_id}")


async def _give_back(commands: Commands, subnet_id: str, address: str, port_id: str, context: CommandContext) -> None:
    def held(state: Any) -> dict[str, Any] | None:
        return {"port_id": None} if state.port_id == port_id else None

    try:
        await commands.update(
            "address", address_id(subnet_id, address), {}, context, verb="release", check=held, visible=False
        )
    except NotFound:
        return


async def release_port(commands: Commands, port_id: str, context: CommandContext) -> None:
    """Delete a port and free its addresses. A port that is gone already is no error."""
    port = await commands.load("port", port_id)
    if not isinstance(port, Port):
        return
    for ip in port.fixed_ips:
        await _give_back(commands, ip.subnet_id, ip.address, port_id, context)
    await commands.delete("port", port_id, context)
