"""Ports and their addresses.

An address is an aggregate of its own, named by subnet and address: taking it is one conditional append, so two ports
can never hold one, whoever asks wherever. A port takes its addresses first and is recorded after; a port id that was
asked for before finds what it took then, so doing it twice takes nothing twice.
"""

from __future__ import annotations

import random
from typing import Any, cast
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from commands.context import CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from domain.addresses import Pool, difference, wanted_addresses
from domain.errors import Conflict, NotFound
from domain.resources import Address, Network, Port, Subnet
from domain.server import FixedIp

PROBES = 32  # random addresses tried before the free ones are counted


def address_id(subnet_id: str, address: str) -> str:
    return str(uuid5(NAMESPACE_OID, f"{subnet_id}/{address}"))


def mac_of(port_id: str) -> str:
    """The MAC address of a port: Neutron's prefix and 24 bits of the port's id, so it never changes."""
    tail = uuid5(NAMESPACE_OID, port_id).bytes[:3]
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in tail)


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
    mac = mac or mac_of(port_id)
    wanted = wanted_addresses(network.id, await _subnets(read, network.id), fixed_ips, mac)
    taken: list[dict[str, str]] = []
    try:
        for subnet, address in wanted:
            besides = {one["address"] for one in taken}
            got = await _take(commands, read, subnet, address, port_id, context, besides)
            taken.append({"address": got, "subnet_id": subnet.id})
        port = await commands.create(
            "port",
            {
                "name": name,
                "network_id": network_id,
                "project_id": project_id or context.actor.project_id,
                "mac": mac,
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
        await _give_back_unused(commands, [(one["subnet_id"], one["address"]) for one in taken], port_id, context)
        raise
    return cast(Port, port)


async def _subnets(read: Lookup, network_id: str) -> list[Subnet]:
    return [cast(Subnet, one) for one in await read.resources("subnet", where={"network_id": network_id})]


async def change_addresses(
    commands: Commands,
    read: Lookup,
    port: Port,
    fixed_ips: list[dict[str, str]],
    context: CommandContext,
    **changes: Any,
) -> Port:
    """Give a port these addresses (as for a new one) and take the others back, with other changes in one commit."""
    subnets = await _subnets(read, port.network_id)
    wanted = wanted_addresses(port.network_id, subnets, fixed_ips, changes.get("mac", port.mac))
    held = [(ip.subnet_id, ip.address) for ip in port.fixed_ips]
    kept, new = difference(held, wanted)
    taken: list[tuple[str, str]] = []
    try:
        for subnet, address in new:
            besides = {one for _, one in (*held, *taken)}
            taken.append((subnet.id, await _take(commands, read, subnet, address, port.id, context, besides)))
        now = [{"address": address, "subnet_id": subnet_id} for subnet_id, address in (*kept, *taken)]
        updated = await commands.update("port", port.id, {"fixed_ips": now, **changes}, context)
    except BaseException:
        await _give_back_unused(commands, taken, port.id, context)
        raise
    for subnet_id, address in set(held) - set(kept):
        await _give_back(commands, subnet_id, address, port.id, context)
    return cast(Port, updated)


async def _give_back_unused(
    commands: Commands, taken: list[tuple[str, str]], port_id: str, context: CommandContext
) -> None:
    """After a change of a port that was not seen to succeed: an answer may be lost of a change that is in the log."""
    port = await commands.load("port", port_id)
    has = {(ip.subnet_id, ip.address) for ip in cast(Port, port).fixed_ips} if port is not None else set()
    for subnet_id, address in taken:
        if (subnet_id, address) not in has:
            await _give_back(commands, subnet_id, address, port_id, context)


async def addresses_of(commands: Commands, port: Port) -> tuple[FixedIp, ...]:
    """A port's addresses as its server keeps them: with what the guest needs to know of their subnets."""
    ips = []
    for ip in port.fixed_ips:
        subnet = await commands.load("subnet", ip.subnet_id)
        if not isinstance(subnet, Subnet):
            raise NotFound(f"Subnet {ip.subnet_id} could not be found.")
        ips.append(
            FixedIp(
                address=ip.address,
                subnet_id=ip.subnet_id,
                prefix_length=int(subnet.cidr.rsplit("/", 1)[1]),
                gateway=subnet.gateway_ip,
                dns=subnet.dns_nameservers,
                version=subnet.ip_version,
            )
        )
    return tuple(ips)


async def _take(
    commands: Commands,
    read: Lookup,
    subnet: Subnet,
    wanted: str | None,
    port_id: str,
    context: CommandContext,
    besides: set[str],
) -> str:
    """Claim an address for a port: the one wanted, or any but those that it has besides."""
    if wanted is not None:
        if await _claim(commands, subnet.id, wanted, port_id, context):
            return wanted
        raise Conflict(
            f"IP address {wanted} already allocated in subnet {subnet.id}", reason="IpAddressAlreadyAllocated"
        )
    pool = Pool(subnet)
    chance = random.Random(UUID(port_id).int)  # the same port looks at the same addresses when it is asked again
    for _ in range(PROBES if pool.size else 0):
        address = pool.at(chance.randrange(pool.size))
        if address not in (pool.gateway, *besides) and await _claim(commands, subnet.id, address, port_id, context):
            return address
    known = [cast(Address, one) for one in await read.resources("address", where={"subnet_id": subnet.id})]
    used = {one.address for one in known if one.port_id}
    for index in range(min(pool.size, 1 << 16)):
        address = pool.at(index)
        if address in used or address in (pool.gateway, *besides):
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
