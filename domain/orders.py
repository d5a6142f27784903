"""Orders that a hypervisor agent carries out, and the reports it answers with.

An order is an "ensure": it names the state that has to hold and carries everything needed to reach it, so doing it
twice is harmless. Orders are derived from the log; `id` is `<position>` of the commit that caused it. Reports travel
back on a durable stream and become commands again (see `commands.reports`). Orders, and reports, that come together
share a message, which is then a list of them.

Sizes: an order is at most 256 KiB on the wire, a report 256 KiB (console output is truncated by its sender).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

OrderKind = Literal[
    "create_disk",  # root disk (qcow2 overlay on the image), and the guest's directory
    "config_drive",  # hostname, ssh keys, metadata, user data, network data; label config-2
    "spawn",  # define and start the guest
    "destroy",  # guest, disks, config drive, console log: gone
    "power_on",
    "power_off",  # ACPI first, forced after params["grace_seconds"]
    "reboot_soft",
    "reboot_hard",
    "pause",
    "unpause",
    "suspend",
    "resume",
    "rescue",  # params: image (ImageSpec), admin_password
    "unrescue",
    "rebuild",  # fresh root disk from spec.image, then spawn; params: reimage (ImageSpec): into the root volume
    "snapshot",  # params: image_id, image_path: flat qcow2 written there; guest keeps its power state; require_quiesce
    "offload",  # as destroy, but the server lives on (shelved)
    "resize",  # params: flavor (new); power state kept; old disk kept until resize_confirm
    "resize_confirm",
    "resize_revert",
    "set_password",  # params: username, password
    "crash_dump",
    "attach_volume",  # params: volume (VolumeSpec)
    "detach_volume",
    "swap_volume",  # params: old, new (VolumeSpec)
    "extend_volume",  # params: volume (VolumeSpec), size_gb: its file is grown, and a guest that runs sees it
    "snapshot_volumes",  # params: snapshots ({"volume_id", "path"}): flat qcow2 of each of one instant; require_quiesce
    "attach_interface",  # params: nic (NicSpec)
    "detach_interface",
    # What a reset ended is dropped, and the guest has what the log says. params: volumes_out, volumes_in (VolumeSpec),
    # swaps ({"old", "new"}), nics_out, nics_in (NicSpec)
    "settle",
    "console_output",  # params: length (lines or null); answered in details["output"]
]

PowerStateName = Literal["nostate", "running", "paused", "shutdown", "crashed", "suspended"]


class ImageSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A disk image the agent can read. `path` is where the image store keeps it (shared directory)."""

    id: str
    path: str
    disk_format: str = "qcow2"
    checksum: str = ""
    size: int = 0  # bytes
    properties: dict[str, str] = {}


class AddressSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    address: str
    prefix_length: int
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    version: int = 4


class NicSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One interface of a guest. `network_id` names the segment: guests of one network reach each other."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[AddressSpec, ...] = ()
    mtu: int = 1450
    tag: str | None = None  # its owner's name for it, told to the guest


class VolumeSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A block volume as a file. `serial` is what the guest sees as disk serial: the volume's id."""

    id: str
    path: str
    disk_format: str = "raw"
    device: str | None = None  # "/dev/vdb", or null: the driver picks the next free one
    size_gb: int = 0
    boot_index: int | None = None
    tag: str | None = None  # its owner's name for it, told to the guest


class GuestSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that describes a guest, independent of the hypervisor. Memory in MiB, disks in GiB."""

    server_id: str
    instance_name: str  # "instance-0000002a"
    name: str
    hostname: str
    project_id: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    image: ImageSpec | None = None
    nics: tuple[NicSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    config_drive: bool = True
    ssh_public_keys: tuple[tuple[str, str], ...] = ()  # (name, key)
    user_data: str | None = None  # base64
    metadata: dict[str, str] = {}
    admin_password: str | None = None
    availability_zone: str = "nova"
    uefi: bool = False
    guest_agent: bool = True  # whether it has the channel of the guest agent
    root_tag: str | None = None  # its owner's name for the disk made of the image, told to the guest


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a host has to make true. A newer `generation` of a server makes older orders void."""

    id: str
    kind: OrderKind
    server_id: str
    host: str
    generation: int
    spec: GuestSpec
    params: dict[str, Any] = {}
    command: str = ""  # the command this serves, such as "stop"
    step: str = ""  # the workflow step, such as "power_off"
    request_id: str = ""
    issued_at: datetime | None = None
    deadline: datetime | None = None


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something failed, in words for its reader. `code` is stable: for programs. `details` is for operators."""

    code: str
    message: str
    details: str = ""


class SubStep(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    started_at: datetime
    finished_at: datetime | None = None
    message: str = ""


# In place of a server's id in the subject of a report: the message is a list of reports of one host.
SEVERAL = "several"
# In the details of an observation: ids of volumes and ports that the guest let go of after their detach had failed.
LET_GO = "let_go"


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent answers for an order (`order_id` set) or saw by itself (`order_id` empty: an observation).

    `outcome`: progress, succeeded or failed for an order; observed for what the hypervisor shows on its own.
    `generation` repeats the order's, or the one that the guest's metadata holds.
    """

    id: str  # unique per report; repeated reports keep it
    host: str
    server_id: str
    outcome: Literal["succeeded", "failed", "progress", "observed"]
    generation: int
    order_id: str = ""
    power_state: PowerStateName | None = None
    fault: Fault | None = None
    unsupported: bool = False  # the driver cannot do this at all (never tried; nothing changed)
    details: dict[str, Any] = {}
    sub_steps: tuple[SubStep, ...] = ()
    progress: int | None = None  # percent
    reason: str = ""  # for observed: why, such as "guest powered itself off"
    occurred_at: datetime | None = None


class HostInventory(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a host offers; sent when its agent starts and whenever it changes. Memory in MiB, disk in GiB."""

    host: str
    driver: str  # libvirt | libvirt-test | simulated
    hypervisor_type: str  # QEMU, kvm, test, simulated
    hypervisor_version: int
    vcpus: int
    memory_mb: int
    disk_gb: int
    host_ip: str = "127.0.0.1"
    cpu_info: dict[str, Any] = {}
    capabilities: tuple[str, ...] = ()  # order kinds that the driver can carry out
    agent_version: str = ""
    started_at: datetime | None = None


class Heartbeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Core NATS message on `heartbeat.<host>`, every few seconds; not stored."""

    host: str
    at: datetime
    guests: int = 0
    running_orders: int = 0
    trouble: str = ""  # why the agent takes no orders now, though it lives
