"""The server aggregate: its state, its events, and how an event changes the state.

An event is a fact: its body holds the new values of the fields it changed (`patch`) and what the history shows about
it (step, result, fault). `evolve` applies the patch and nothing else: it never refuses, never reads a clock. What may
happen is decided in `domain.decide`, by the rules of `domain.machine`.

Event types are `server.<command>.<phase>`; `server.power.observed` is what a hypervisor showed on its own.
"""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from domain.orders import Fault, SubStep


class FlavorSnapshot(msgspec.Struct, frozen=True, omit_defaults=True):
    """The flavor as it was when the server got it. MiB of memory and swap, GiB of disk."""

    id: str
    name: str
    vcpus: int
    ram: int
    disk: int
    ephemeral: int = 0
    swap: int = 0
    rxtx_factor: float = 1.0
    extra_specs: dict[str, str] = {}


class FixedIp(msgspec.Struct, frozen=True, omit_defaults=True):
    address: str
    subnet_id: str
    prefix_length: int = 24
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    version: int = 4


class Interface(msgspec.Struct, frozen=True, omit_defaults=True):
    """A port as the server knows it. `created_here`: the port goes when the server goes."""

    port_id: str
    network_id: str
    network_name: str
    mac: str
    fixed_ips: tuple[FixedIp, ...] = ()
    created_here: bool = True
    mtu: int = 1450
    tag: str | None = None


class NetworkRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the creator asked for: a network, a port, or a fixed address on a network."""

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class VolumeAttachment(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str  # attachment id
    volume_id: str
    device: str | None = None
    delete_on_termination: bool = False
    tag: str | None = None
    boot_index: int | None = None
    path: str = ""
    disk_format: str = "raw"
    size_gb: int = 0
    replaced_by: str | None = None  # the volume whose place it is about to give up, while a swap goes on


class BlockDevice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A volume that the creator asked for: one that is there (`source_type` volume), or one made for the server of an
    image, of a snapshot, or blank. `volume_id` names it from the beginning, `source_id` what it is a copy of.
    """

    source_type: str  # volume | image | snapshot | blank
    volume_id: str = ""
    source_id: str | None = None
    size_gb: int = 0
    boot_index: int | None = None
    device: str | None = None
    delete_on_termination: bool = False
    tag: str | None = None

    @property
    def made_here(self) -> bool:
        return self.source_type != "volume"


class ServerFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """The last thing that went wrong, kept until the next success. `code` is an HTTP-like number, as clients expect."""

    code: int
    message: str
    created: datetime
    details: str = ""
    reason: str = ""


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one thing in progress on a server: an accepted command, and how far its workflow has come.

    `awaits` says who moves it on: "conductor" (a control-plane step), "agent" (an order is out, under the server's
    generation). `undoing` walks the finished steps back. `deadline` ends it whatever happens.
    """

    request_id: str
    command: str
    started_at: datetime
    deadline: datetime
    user_id: str
    project_id: str | None
    step: str = ""
    step_started_at: datetime | None = None
    awaits: str = "conductor"
    attempt: int = 1
    undoing: bool = False
    undone: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    params: dict[str, Any] = {}
    vm_state_before: str = ""
    power_state_before: str = "nostate"
    hosts_tried: tuple[str, ...] = ()
    fault: Fault | None = None
    stuck: bool = False


class ResizeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a resize or migration needs to be confirmed or reverted."""

    old_flavor: FlavorSnapshot
    new_flavor: FlavorSnapshot
    source_host: str
    dest_host: str
    migration_type: str  # resize | migration
    old_vm_state: str
    finished_at: datetime | None = None


LOOK = "look"


class Due(msgspec.Struct, frozen=True):
    """What comes by itself at a moment, unless something else ends the state that it waits in: a command's name.

    LOOK is none: what the control plane owes a server whose state was reset.
    """

    command: str
    at: datetime


class Owed(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operation that a reset ended and that is not settled: its host may still be at it, what it took is not back.

    `params` and `done` are the operation's; `interface` is what it was to plug in; `tries`: settlings that were begun.
    """

    command: str
    request_id: str
    params: dict[str, Any] = {}
    done: tuple[str, ...] = ()
    interface: Interface | None = None
    tries: int = 0


class LeftGuest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A guest that nobody waits for any more, on a host that could not be told. `generation` is its destroy order's."""

    host: str
    generation: int


class Server(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that is true of one server after some event. Times are UTC; sizes as in the flavor."""

    id: str
    version: int = 0
    name: str = ""
    description: str | None = None
    project_id: str = ""
    user_id: str = ""
    vm_state: str = "building"
    task_state: str | None = None
    power_state: str = "nostate"
    created_at: datetime | None = None
    updated_at: datetime | None = None
    launched_at: datetime | None = None
    terminated_at: datetime | None = None
    flavor: FlavorSnapshot | None = None
    image_id: str | None = None
    image_properties: dict[str, str] = {}
    key_name: str | None = None
    public_key: str | None = None
    user_data_id: str | None = None  # a blob: the text may be 64 KiB and would travel in every commit
    metadata: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    config_drive: bool = False
    hostname: str = ""
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    disk_config: str = "MANUAL"
    locked_by: str | None = None  # owner | admin
    locked_reason: str | None = None
    host: str | None = None
    host_id: str | None = None
    availability_zone: str = ""
    pinned_availability_zone: str | None = None
    instance_name: str = ""
    reservation_id: str = ""
    launch_index: int = 0
    root_device_name: str | None = "/dev/vda"
    root_tag: str | None = None  # of the disk made of its image; a root volume has its tag in its attachment
    progress: int = 0
    fault: ServerFault | None = None
    networks_requested: tuple[NetworkRequest, ...] | None = None  # null = auto, empty = none
    interfaces: tuple[Interface, ...] = ()
    security_groups: tuple[str, ...] = ()
    block_devices: tuple[BlockDevice, ...] = ()  # as asked for at creation
    volumes: tuple[VolumeAttachment, ...] = ()
    server_group: str | None = None
    scheduler_hints: dict[str, Any] = {}
    forced_host: str | None = None
    rescue_image_id: str | None = None
    shelved_image_id: str | None = None
    shelved_at: datetime | None = None
    soft_deleted_at: datetime | None = None
    resize: ResizeRecord | None = None
    generation: int = 0  # of the newest order; only grows
    guest_exists: bool = False  # a host holds a guest or its disks
    due: Due | None = None
    owed: tuple[Owed, ...] = ()  # until the host has said that it is settled
    left_guests: tuple[LeftGuest, ...] = ()  # to be destroyed by their hosts whenever these answer
    operation: Operation | None = None

    @property
    def locked(self) -> bool:
        return self.locked_by is not None

    @property
    def deleted(self) -> bool:
        return self.vm_state == "deleted"

    @property
    def volume_backed(self) -> bool:
        """Its root disk is a volume. As in Nova, the image of such a server is empty and stays so."""
        disks: tuple[VolumeAttachment | BlockDevice, ...] = (*self.volumes, *self.block_devices)
        return self.image_id is None and any(disk.boot_index == 0 for disk in disks)

    def attachment(self, volume_id: str) -> VolumeAttachment | None:
        return next((one for one in self.volumes if one.volume_id == volume_id), None)


class ServerPatch(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fields an event changed, with their new values. A field that is not set did not change."""

    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    project_id: str | UnsetType = UNSET
    user_id: str | UnsetType = UNSET
    vm_state: str | UnsetType = UNSET
    task_state: str | UnsetType | None = UNSET
    power_state: str | UnsetType = UNSET
    created_at: datetime | UnsetType = UNSET
    launched_at: datetime | UnsetType | None = UNSET
    terminated_at: datetime | UnsetType | None = UNSET
    flavor: FlavorSnapshot | UnsetType = UNSET
    image_id: str | UnsetType | None = UNSET
    image_properties: dict[str, str] | UnsetType = UNSET
    key_name: str | UnsetType | None = UNSET
    public_key: str | UnsetType | None = UNSET
    user_data_id: str | UnsetType | None = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    config_drive: bool | UnsetType = UNSET
    hostname: str | UnsetType = UNSET
    access_ip_v4: str | UnsetType | None = UNSET
    access_ip_v6: str | UnsetType | None = UNSET
    disk_config: str | UnsetType = UNSET
    locked_by: str | UnsetType | None = UNSET
    locked_reason: str | UnsetType | None = UNSET
    host: str | UnsetType | None = UNSET
    host_id: str | UnsetType | None = UNSET
    availability_zone: str | UnsetType = UNSET
    pinned_availability_zone: str | UnsetType | None = UNSET
    instance_name: str | UnsetType = UNSET
    reservation_id: str | UnsetType = UNSET
    launch_index: int | UnsetType = UNSET
    root_device_name: str | UnsetType | None = UNSET
    root_tag: str | UnsetType | None = UNSET
    progress: int | UnsetType = UNSET
    fault: ServerFault | UnsetType | None = UNSET
    networks_requested: tuple[NetworkRequest, ...] | UnsetType | None = UNSET
    interfaces: tuple[Interface, ...] | UnsetType = UNSET
    security_groups: tuple[str, ...] | UnsetType = UNSET
    block_devices: tuple[BlockDevice, ...] | UnsetType = UNSET
    volumes: tuple[VolumeAttachment, ...] | UnsetType = UNSET
    server_group: str | UnsetType | None = UNSET
    scheduler_hints: dict[str, Any] | UnsetType = UNSET
    forced_host: str | UnsetType | None = UNSET
    rescue_image_id: str | UnsetType | None = UNSET
    shelved_image_id: str | UnsetType | None = UNSET
    shelved_at: datetime | UnsetType | None = UNSET
    soft_deleted_at: datetime | UnsetType | None = UNSET
    resize: ResizeRecord | UnsetType | None = UNSET
    generation: int | UnsetType = UNSET
    guest_exists: bool | UnsetType = UNSET
    due: Due | UnsetType | None = UNSET
    owed: tuple[Owed, ...] | UnsetType = UNSET
    left_guests: tuple[LeftGuest, ...] | UnsetType = UNSET
    operation: Operation | UnsetType | None = UNSET


def leave_guest(server: Server) -> dict[str, Any]:
    """The patch of a server that goes on without its guest, which its host has to destroy when it can."""
    if server.host is None or not server.guest_exists:
        return {"guest_exists": False}
    generation = server.generation + 1
    left = LeftGuest(server.host, generation)
    return {"guest_exists": False, "generation": generation, "left_guests": (*server.left_guests, left)}


_PATCH_FIELDS = tuple(field.name for field in msgspec.structs.fields(ServerPatch))
_patch_values = attrgetter(*_PATCH_FIELDS)


class EventBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of every server event: the patch, and what the history shows.

    `request_id` names the action (the accepted command) that the event belongs to. `step` and `event` are set on step
    events: our name of the step, and Nova's name of the event (null: Nova shows none).
    """

    request_id: str
    patch: ServerPatch = ServerPatch()
    step: str = ""
    event: str | None = None
    host: str | None = None
    fault: Fault | None = None
    message: str = ""
    undo: bool = False
    details: dict[str, Any] = {}
    sub_steps: tuple[SubStep, ...] = ()


class ServerEvent(msgspec.Struct, frozen=True):
    """One event of a server's stream, decoded."""

    command: str
    phase: str
    body: EventBody

    @property
    def type(self) -> str:
        return f"server.{self.command}.{self.phase}"


_decode_body = msgspec.json.Decoder(EventBody).decode
_encode = msgspec.json.Encoder().encode
_decode_server = msgspec.json.Decoder(Server).decode


def decode_event(type_: str, data: bytes | msgspec.Raw) -> ServerEvent:
    """Read one event back. Raises `ValueError` for a type that is not a server event."""
    aggregate, command, phase = type_.split(".")
    if aggregate != "server":
        raise ValueError(f"not a server event: {type_}")
    return ServerEvent(command, phase, _decode_body(data))


def encode_body(event: ServerEvent) -> bytes:
    return _encode(event.body)


def decode_server(state: bytes | msgspec.Raw) -> Server:
    return _decode_server(state)


def encode_server(server: Server) -> bytes:
    return _encode(server)


def changed(patch: ServerPatch) -> dict[str, Any]:
    """The fields that a patch sets, by name."""
    return {name: value for name, value in zip(_PATCH_FIELDS, _patch_values(patch), strict=True) if value is not UNSET}


def evolve(server: Server, event: ServerEvent, at: datetime) -> Server:
    """The state after `event`, which happened at `at` (UTC). Total: never refuses."""
    return msgspec.structs.replace(server, version=server.version + 1, updated_at=at, **changed(event.body.patch))
