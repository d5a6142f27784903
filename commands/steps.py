"""The steps that the control plane does by itself: placing, ports, images, volumes.

Each is a coroutine that gets the server as it is and returns how the step ended; each bears being done twice, because a
conductor that died in between does it again. A refusal or a missing thing becomes the step's fault, in words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from commands import steps_images, steps_volumes
from commands.capacity import Capacity
from commands.context import SERVICE, CommandContext
from commands.handler import Commands
from commands.left_ports import build_port_id, give_back, unbind
from commands.lookup import Lookup
from commands.networking import addresses_of, allocate_port, release_port
from commands.security_groups import group_ids
from commands.server_ports import group_names, no_address
from commands.settings import CommandSettings
from commands.steps_images import ImageSteps
from commands.steps_volumes import VolumeSteps
from commands.volume_files import VolumeFiles
from domain.decide import StepOutcome
from domain.errors import Conflict, Rejected, Unavailable
from domain.orders import Fault
from domain.resources import Network, Port
from domain.scheduling import NO_VALID_HOST
from domain.server import Interface, NetworkRequest, Operation, Server
from domain.settling import rest_of
from domain.workflows import UNDO


@dataclass(frozen=True)
class Steps:
    """What the steps need. `name` of the coroutine = the workflow's `control`."""

    commands: Commands
    read: Lookup
    capacity: Capacity
    settings: CommandSettings

    async def run(self, control: str, server: Server) -> StepOutcome:
        """Do one step. A refusal is the step's outcome; raises `Unavailable`, for what is away refuses nothing."""
        operation = server.operation
        assert operation is not None
        try:
            result = await _STEPS[control](self, server)
        except Unavailable:
            raise
        except Rejected as rejected:
            return StepOutcome(operation.step, False, fault=Fault(rejected.reason, rejected.text))
        return _outcome(operation.step, result)

    async def came_too_late(self, control: str, asked: Server, now: Server) -> None:
        """Give back what a step took for an operation that was over when it had it."""
        if control in ("create_ports", "allocate_port"):
            await give_back(self.commands, asked, now, self.context(asked))
        if control in steps_volumes.STEPS:
            await steps_volumes.came_too_late(control, _volume_steps(self, asked), now)

    def context(self, server: Server) -> CommandContext:
        operation = server.operation
        assert operation is not None
        actor = msgspec.structs.replace(SERVICE, project_id=server.project_id)
        return CommandContext(actor, operation.request_id, causation_id=f"server:{server.id}:{server.version}")


def _outcome(step: str, result: StepOutcome | dict[str, Any] | None) -> StepOutcome:
    if isinstance(result, StepOutcome):
        return result
    return StepOutcome(step, True, patch=result or {})


async def _nothing(steps: Steps, server: Server) -> None:
    """A step that only shows in the history: what it stands for was decided when the command was accepted."""


async def _schedule(steps: Steps, server: Server) -> StepOutcome:
    operation = server.operation
    assert operation is not None
    placement = steps.capacity.place(steps.capacity.demand(server))
    evidence = {"placement": placement.evidence()}
    if placement.host is None:
        message = NO_VALID_HOST
        if operation.attempt > 1:
            reason = operation.fault.message if operation.fault else ""
            message = (
                "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures for "
                f"instance {server.id}. Last exception: {reason}"
            )
        fault = Fault("no_valid_host", message, details=placement.summary())
        return StepOutcome(operation.step, False, fault=fault, details=evidence, unchanged=True)
    steps.capacity.reserve(server, placement.host)
    host = steps.capacity.hosts[placement.host]
    patch = {"host": placement.host, "host_id": host.id, "availability_zone": host.availability_zone}
    return StepOutcome(operation.step, True, patch=patch, details=evidence, host=placement.host)


async def _release_host(steps: Steps, server: Server) -> dict[str, Any]:
    return {"host": None, "host_id": None, "availability_zone": ""}


async def _claim_resize(steps: Steps, server: Server) -> StepOutcome | None:
    """Room for the new flavor on the same host: what the old one holds counts as free."""
    operation = server.operation
    assert operation is not None
    flavor = operation.params.get("flavor")
    if flavor is None or server.flavor is None:
        return None
    demand = steps.capacity.demand(server)
    wanted = msgspec.structs.replace(
        demand.flavor,
        vcpus=max(0, flavor["vcpus"] - server.flavor.vcpus),
        ram=max(0, flavor["ram"] - server.flavor.ram),
        disk=max(0, flavor["disk"] - server.flavor.disk),
    )
    demand = msgspec.structs.replace(demand, flavor=wanted, group_policy=None)
    placement = steps.capacity.place_on(server.host or "", demand)
    evidence = {"placement": placement.evidence()}
    if placement.host is None:
        fault = Fault("no_valid_host", NO_VALID_HOST, details=placement.summary())
        return StepOutcome(operation.step, False, fault=fault, details=evidence, unchanged=True)
    return StepOutcome(operation.step, True, details=evidence, host=placement.host)


async def _create_ports(steps: Steps, server: Server) -> dict[str, Any]:
    requests = server.networks_requested
    if requests is None:
        requests = await _only_network(steps, server)
    interfaces = tuple([await _interface(steps, server, request, index) for index, request in enumerate(requests)])
    patch: dict[str, Any] = {"interfaces": interfaces}
    if any(request.port_id for request in requests):  # a port that was there has groups of its own
        with_ports = msgspec.structs.replace(server, interfaces=interfaces)
        patch["security_groups"] = await group_names(steps.commands, steps.read, with_ports)
    return patch


async def _only_network(steps: Steps, server: Server) -> tuple[NetworkRequest, ...]:
    """What "auto" means: the one network that the project can use, or none."""
    found = [cast(Network, one) for one in await steps.read.resources("network")]
    usable = [one for one in found if not one.external and (one.shared or one.project_id == server.project_id)]
    if len(usable) > 1:
        raise Conflict(
            "Multiple possible networks found, use a Network ID to be more specific.", reason="ambiguous_network"
        )
    return tuple(NetworkRequest(network_id=one.id) for one in usable)


async def _interface(steps: Steps, server: Server, request: NetworkRequest, index: int) -> Interface:
    context = steps.context(server)
    binding = {"device_id": server.id, "device_owner": f"compute:{server.availability_zone or 'nova'}"}
    if request.port_id is not None:

        def bind(state: Any) -> dict[str, Any]:
            if state.device_id and state.device_id != server.id:
                raise Conflict(f"Port {request.port_id} is still in use.", reason="port_in_use")
            return binding | {"binding_host": server.host, "status": "ACTIVE"}

        port = cast(Port, await steps.commands.update("port", request.port_id, {}, context, verb="bind", check=bind))
    else:
        assert server.operation is not None
        port_id = build_port_id(server, server.operation.attempt, index)
        port = await _new_port(steps, server, request, port_id)
    return await interface_of(steps, port, created_here=request.port_id is None, tag=request.tag)


async def _new_port(steps: Steps, server: Server, request: NetworkRequest, port_id: str) -> Port:
    context = steps.context(server)
    groups = await group_ids(steps.commands, steps.read, server.project_id, server.security_groups, context.request_id)
    assert request.network_id is not None
    try:
        return await allocate_port(
            steps.commands,
            steps.read,
            network_id=request.network_id,
            context=context,
            project_id=server.project_id,
            fixed_ips=[{"ip_address": request.fixed_ip}] if request.fixed_ip else None,
            port_id=port_id,
            device_id=server.id,
            device_owner=f"compute:{server.availability_zone or 'nova'}",
            binding_host=server.host or "",
            security_groups=groups,
        )
    except Rejected as refused:
        raise no_address(refused, request) from refused


async def interface_of(steps: Steps, port: Port, *, created_here: bool, tag: str | None = None) -> Interface:
    """A port as the server keeps it: with what the guest needs to know of its subnets."""
    network = await steps.commands.load("network", port.network_id)
    return Interface(
        port_id=port.id,
        network_id=port.network_id,
        network_name=network.name if network else port.network_id,
        mac=port.mac,
        fixed_ips=await addresses_of(steps.commands, port),
        created_here=created_here,
        mtu=cast(Network, network).mtu if network else 1450,
        tag=tag,
    )


async def _delete_ports(steps: Steps, server: Server) -> dict[str, Any]:
    for interface in server.interfaces:
        await _forget_port(steps, server, interface)
    if server.launched_at is None:
        await give_back(steps.commands, server, server, steps.context(server))
    return {"interfaces": ()}


async def _forget_port(steps: Steps, server: Server, interface: Interface) -> None:
    context = steps.context(server)
    if interface.created_here:
        await release_port(steps.commands, interface.port_id, context)
        return
    await unbind(steps.commands, server, interface.port_id, context)


async def _allocate_port(steps: Steps, server: Server) -> dict[str, Any]:
    operation = server.operation
    assert operation is not None
    port_id = operation.params.get("port_id")
    known = next((one for one in server.interfaces if one.port_id == port_id), None)
    if known is not None:
        return {}
    request = NetworkRequest(
        network_id=operation.params.get("network_id"),
        port_id=None if operation.params.get("create") else port_id,
        fixed_ip=operation.params.get("fixed_ip"),
        tag=operation.params.get("tag"),
    )
    if request.port_id is None:
        port = await _new_port(steps, server, request, str(port_id))
        interface = await interface_of(steps, port, created_here=True, tag=request.tag)
        return {"interfaces": (*server.interfaces, interface)}
    interfaces = (*server.interfaces, await _interface(steps, server, request, 0))
    names = await group_names(steps.commands, steps.read, msgspec.structs.replace(server, interfaces=interfaces))
    return {"interfaces": interfaces, "security_groups": names}


async def _forget_interface(steps: Steps, server: Server) -> dict[str, Any]:
    operation = server.operation
    assert operation is not None
    gone = [one for one in server.interfaces if one.port_id == operation.params["port_id"]]
    for interface in gone:
        await _forget_port(steps, server, interface)
    return {"interfaces": tuple(one for one in server.interfaces if one not in gone)}


async def _release_interface(steps: Steps, server: Server) -> dict[str, Any]:
    """The port that was to be plugged in: whether the server lists it, or does not yet, or not any more."""
    operation = server.operation
    assert operation is not None
    rest = tuple(one for one in server.interfaces if one.port_id != operation.params["port_id"])
    without = msgspec.structs.replace(server, interfaces=rest)
    await give_back(steps.commands, server, without, steps.context(server))
    return {"interfaces": rest}


def _volume_steps(steps: Steps, server: Server) -> VolumeSteps:
    files = VolumeFiles(steps.commands, steps.read, steps.settings.images_dir, steps.settings.volumes_dir)
    return VolumeSteps(files=files, server=server, context=steps.context(server))


def _image(control: str) -> Callable[[Steps, Server], Awaitable[Any]]:
    async def step(steps: Steps, server: Server) -> Any:
        images = ImageSteps(
            commands=steps.commands,
            read=steps.read,
            settings=steps.settings,
            server=server,
            context=steps.context(server),
        )
        return await steps_images.STEPS[control](images)

    return step


def _volume(control: str) -> Callable[[Steps, Server], Awaitable[Any]]:
    async def step(steps: Steps, server: Server) -> Any:
        return await steps_volumes.STEPS[control](_volume_steps(steps, server))

    return step


async def _give_back(steps: Steps, server: Server) -> dict[str, Any]:
    """What the operation that this one ended had taken."""
    operation = server.operation
    assert operation is not None
    return await give_back_taken(steps, server, operation, operation.params["superseded"])


async def _give_back_owed(steps: Steps, server: Server) -> dict[str, Any]:
    """What the operations that resets ended had taken, or the rest of what their hosts had done already."""
    operation = server.operation
    assert operation is not None
    patch: dict[str, Any] = {"owed": ()}
    for owed in server.owed:
        for command, params, controls in rest_of(server, owed):
            ended = msgspec.structs.replace(operation, command=command, params=params)
            for control in controls:
                found = await _STEPS[control](steps, msgspec.structs.replace(server, operation=ended))
                patch |= found
                server = msgspec.structs.replace(server, **found)
    return patch


async def give_back_taken(steps: Steps, server: Server, operation: Operation, taken: dict[str, Any]) -> dict[str, Any]:
    """On behalf of `operation`. `taken`: see `domain.workflows.taken_by`. Returns the server's patch."""
    ended = msgspec.structs.replace(operation, command=taken["command"], params=taken["params"])
    patch: dict[str, Any] = {}
    for name in taken["undos"]:
        control = UNDO[name].control
        assert control is not None
        patch |= await _STEPS[control](steps, msgspec.structs.replace(server, operation=ended))
    return patch


_STEPS: dict[str, Callable[[Steps, Server], Awaitable[Any]]] = {
    "schedule": _schedule,
    "release_host": _release_host,
    "claim_resize": _claim_resize,
    "prepare_resize": _nothing,
    "prepare_host": _nothing,
    "finish_resize": _nothing,
    "prepare_rebuild": _nothing,
    "prepare_revert": _nothing,
    "create_ports": _create_ports,
    "delete_ports": _delete_ports,
    "allocate_port": _allocate_port,
    "forget_interface": _forget_interface,
    "release_interface": _release_interface,
    "give_back": _give_back,
    "give_back_owed": _give_back_owed,
    **{control: _image(control) for control in steps_images.STEPS},
    **{control: _volume(control) for control in steps_volumes.STEPS},
}
