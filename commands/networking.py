"""Ports and their addresses.

An address is an aggregate of its own, named by subnet and address: taking it is one conditional append, so two ports
can never hold one, whoever asks wherever. A port takes its addresses first and is recorded after; a port id that was
asked for before finds what it took then, so doing it twice takes nothing twice.

Who dies between the two leaves addresses that no port has: `take_back` frees them, by what the log says and no clock.
It appends to the port first, and whoever began before that is refused when it comes to record the port; what somebody
claimed again since it looked, it leaves.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any, NamedTuple, cast
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from commands.context import CommandContext
from commands.handler import Commands
from commands.lookup import Lookup
from domain.addresses import Pool, difference, wanted_addresses
from domain.errors import Conflict, NotFound, Unavailable
from domain.resources import Address, Network, Port, Resource, Subnet, decode
from domain.server import FixedIp

PROBES = 32  # random addresses tried before the free ones are counted


class Claim(NamedTuple):
    """An address that a port has, and the version of the address's aggregate that says so."""

    subnet_id: str
    address: str
    version: int


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
    before = await commands.last("port", port_id)
    existing = None if before is None else decode("port", before.commit.state)
    if existing is not None and not existing.deleted:
        return cast(Port, existing)
    mac = mac or mac_of(port_id)
    wanted = wanted_addresses(network.id, await _subnets(read, network.id), fixed_ips, mac)
    taken: list[Claim] = []
    try:
        for subnet, address in wanted:
            besides = {one.address for one in taken}
            taken.append(await _take(commands, read, subnet, address, port_id, context, besides))
        port = await _record(
            commands,
            {
                "name": name,
                "network_id": network_id,
                "project_id": project_id or context.actor.project_id,
                "mac": mac,
                "fixed_ips": [{"address": one.address, "subnet_id": one.subnet_id} for one in taken],
                "device_id": device_id,
                "device_owner": device_owner,
                "binding_host": binding_host,
                "status": "ACTIVE" if binding_host else "DOWN",
                **fields,
            },
            context,
            port_id,
            0 if before is None else before.commit.version,
        )
    except BaseException:
        await _give_back_unused(commands, taken, port_id, context)
        raise
    return port


async def _record(
    commands: Commands, fields: dict[str, Any], context: CommandContext, port_id: str, version: int
) -> Port:
    """The port, unless something was appended to it since this version: then its addresses may be somebody else's."""
    try:
        return cast(Port, await commands.create("port", fields, context, id=port_id, after=version))
    except Conflict as conflict:
        raise Unavailable(
            f"Port {port_id} was not made: its addresses were taken back meanwhile",
            hint="Send the request again.",
            reason="addresses_taken_back",
        ) from conflict


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
    """Give a port these addresses (as for a new one) and take the others back, with other changes in one commit.

    Raises `Conflict` when the port got other addresses meanwhile, or had some taken back.
    """
    newest = await commands.load("port", port.id)
    if not isinstance(newest, Port):
        raise NotFound(f"Port {port.id} could not be found.")
    subnets = await _subnets(read, port.network_id)
    wanted = wanted_addresses(port.network_id, subnets, fixed_ips, changes.get("mac", newest.mac))
    held = [(ip.subnet_id, ip.address) for ip in newest.fixed_ips]
    kept, new = difference(held, wanted)

    def unchanged(state: Port) -> None:
        if (state.fixed_ips, state.reclaims) != (newest.fixed_ips, newest.reclaims):
            raise Conflict(
                f"The addresses of port {port.id} were changed by somebody else meanwhile",
                hint="Read the port again, and decide on what it has now.",
                reason="port_changed",
            )

    taken: list[Claim] = []
    try:
        for subnet, address in new:
            besides = {one for _, one in held} | {one.address for one in taken}
            taken.append(await _take(commands, read, subnet, address, port.id, context, besides))
        now = [*kept, *((one.subnet_id, one.address) for one in taken)]
        patch = {"fixed_ips": [{"address": address, "subnet_id": subnet_id} for subnet_id, address in now], **changes}
        left = [await _claimed(commands, *one) for one in set(held) - set(kept)]
        updated = await commands.update("port", port.id, patch, context, check=unchanged)
    except BaseException:
        await _give_back_unused(commands, taken, port.id, context)
        raise
    for one in left:
        await _give_back(commands, one.subnet_id, one.address, port.id, context, one.version)
    return cast(Port, updated)


async def _claimed(commands: Commands, subnet_id: str, address: str) -> Claim:
    known = await commands.load("address", address_id(subnet_id, address))
    return Claim(subnet_id, address, known.version if known is not None else 0)


async def _give_back_unused(commands: Commands, taken: list[Claim], port_id: str, context: CommandContext) -> None:
    """After a change of a port that was not seen to succeed: an answer may be lost of a change that is in the log."""
    port = await commands.load("port", port_id)
    for one in taken:
        if not _has(port, one.subnet_id, one.address):
            await _give_back(commands, one.subnet_id, one.address, port_id, context, one.version)


def _has(port: Resource | None, subnet_id: str, address: str) -> bool:
    return isinstance(port, Port) and any((ip.subnet_id, ip.address) == (subnet_id, address) for ip in port.fixed_ips)


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
) -> Claim:
    """Claim an address for a port: the one wanted, or any but those that it has besides."""
    if wanted is not None:
        if (claim := await _claim(commands, subnet.id, wanted, port_id, context)) is not None:
            return claim
        raise Conflict(
            f"IP address {wanted} already allocated in subnet {subnet.id}", reason="IpAddressAlreadyAllocated"
        )
    pool = Pool(subnet)
    chance = random.Random(UUID(port_id).int)  # the same port looks at the same addresses when it is asked again
    for _ in range(PROBES if pool.size else 0):
        address = pool.at(chance.randrange(pool.size))
        if address in (pool.gateway, *besides):
            continue
        if (claim := await _claim(commands, subnet.id, address, port_id, context)) is not None:
            return claim
    known = [cast(Address, one) for one in await read.resources("address", where={"subnet_id": subnet.id})]
    used = {one.address for one in known if one.port_id}
    for index in range(min(pool.size, 1 << 16)):
        address = pool.at(index)
        if address in used or address in (pool.gateway, *besides):
            continue
        if (claim := await _claim(commands, subnet.id, address, port_id, context)) is not None:
            return claim
    raise Conflict(
        f"No more IP addresses available on network {subnet.network_id}.",
        hint="Delete unused ports or add a subnet.",
        reason="IpAddressGenerationFailure",
    )


async def _claim(
    commands: Commands, subnet_id: str, address: str, port_id: str, context: CommandContext
) -> Claim | None:
    """The address for the port, None when another has it. What it has already is claimed anew, as `take_back` sees."""
    id_ = address_id(subnet_id, address)
    held = await commands.load("address", id_)
    if isinstance(held, Address) and held.port_id not in (None, port_id):
        return None
    fields = {"name": address, "subnet_id": subnet_id, "address": address, "port_id": port_id}

    def ours(state: Address) -> None:
        if state.port_id not in (None, port_id):
            raise Conflict(f"IP address {address} is held by port {state.port_id}")

    try:
        if held is None:
            now = await commands.create("address", fields, context, id=id_, verb="allocate", visible=False)
        else:
            now = await commands.update(
                "address", id_, {"port_id": port_id}, context, verb="allocate", check=ours, visible=False
            )
    except Conflict:
        return None
    return Claim(subnet_id, address, now.version)


async def take_back(commands: Commands, seen: Address, context: CommandContext) -> bool:
    """Free an address that its port does not have, unless its port gets it. Whether it was freed."""
    held = await commands.load("address", seen.id)
    if not isinstance(held, Address) or held.port_id is None or held.version != seen.version:
        return False
    if not await _fence_off(commands, held, held.port_id, context):
        return False
    await _give_back(commands, held.subnet_id, held.address, held.port_id, context, held.version)
    return True


async def _fence_off(commands: Commands, held: Address, port_id: str, context: CommandContext) -> bool:
    """See to it that no change of the port that has begun can end with this address. False: the port has it."""
    last = await commands.last("port", port_id)
    port = None if last is None else decode("port", last.commit.state)

    def not_there(state: Port) -> dict[str, Any] | None:
        return None if _has(state, held.subnet_id, held.address) else {"reclaims": state.reclaims + 1}

    try:
        if port is not None and not port.deleted:
            port = await commands.update("port", port_id, {}, context, verb="reclaim", check=not_there, visible=False)
            return not _has(port, held.subnet_id, held.address)
        subnet = await commands.load("subnet", held.subnet_id)
        fields = {"network_id": subnet.network_id if isinstance(subnet, Subnet) else "", "mac": mac_of(port_id)}
        version = 0 if last is None else last.commit.version
        await commands.create(
            "port", fields | {"deleted": True}, context, id=port_id, verb="reclaim", visible=False, after=version
        )
    except (Conflict, NotFound):
        return False  # the port came, or went, just now
    return True


async def _give_back(
    commands: Commands, subnet_id: str, address: str, port_id: str, context: CommandContext, version: int | None = None
) -> None:
    """Free an address of a port; with `version`, unless it was claimed again since."""

    def held(state: Any) -> dict[str, Any] | None:
        return {"port_id": None} if state.port_id == port_id and version in (None, state.version) else None

    try:
        await commands.update(
            "address", address_id(subnet_id, address), {}, context, verb="release", check=held, visible=False
        )
    except NotFound:
        return


async def release_port(commands: Commands, port_id: str, context: CommandContext) -> None:
    """Delete a port and free its addresses. A port that is gone already, or meanwhile, is no error."""
    port = await commands.load("port", port_id)
    if not isinstance(port, Port):
        return
    for ip in port.fixed_ips:
        await _give_back(commands, ip.subnet_id, ip.address, port_id, context)
    with contextlib.suppress(NotFound):  # the end of a cancelled build gives back what a delete gives back, too
        await commands.delete("port", port_id, context)
