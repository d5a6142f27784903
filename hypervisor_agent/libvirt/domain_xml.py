"""A guest as libvirt's domain XML. Pure: what is remembered of a guest goes in, text comes out.

Machine type `pc`: it takes hot-plugged disks and NICs without slots set aside, and boots every image that has a BIOS
boot sector. The config drive is an IDE CD-ROM, so that volumes get vdb, vdc, ... inside the guest as outside.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from domain.orders import GuestSpec, ImageSpec, NicSpec, VolumeSpec
from hypervisor_agent.libvirt.files import GuestFiles
from hypervisor_agent.libvirt.networks import bridge_name
from hypervisor_agent.libvirt.nft_rules import tap_name
from hypervisor_agent.libvirt.record import GuestRecord

NAMESPACE = "urn:chronova:guest:1"
METADATA_PREFIX = "chronova"
register_namespace(METADATA_PREFIX, NAMESPACE)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class HostTraits:
    """What of the host shows in a definition."""

    host: str
    domain_type: str  # kvm, qemu, test
    bridged: bool
    emulator: str | None = None
    arch: str = "x86_64"
    taps: str = ""  # what the names of its guests' tap devices begin with; empty: libvirt names them


def domain_xml(record: GuestRecord, files: GuestFiles, traits: HostTraits) -> str:
    spec = record.spec
    domain = Element("domain", type=traits.domain_type)
    _text(domain, "name", spec.instance_name)
    _text(domain, "uuid", spec.server_id)
    _text(domain, "title", spec.name[:255].replace("\n", " ") or spec.instance_name)
    metadata = SubElement(domain, "metadata")
    SubElement(metadata, f"{{{NAMESPACE}}}guest", _metadata(record, traits.host))
    _text(domain, "memory", str(spec.memory_mb), unit="MiB")
    _text(domain, "currentMemory", str(spec.memory_mb), unit="MiB")
    _text(domain, "vcpu", str(spec.vcpus), placement="static")
    _system(domain, spec, traits.arch, boots_first_disk=record.rescue is None or not record.rescue.stable)
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    if traits.domain_type == "kvm":
        SubElement(domain, "cpu", mode="host-passthrough", check="none")
    elif traits.domain_type == "qemu":
        cpu = SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", "qemu64", fallback="forbid")
    clock = SubElement(domain, "clock", offset="utc")
    SubElement(clock, "timer", name="pit", tickpolicy="delay")
    SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    SubElement(clock, "timer", name="hpet", present="no")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, event, action)
    devices = SubElement(domain, "devices")
    if traits.emulator:
        _text(devices, "emulator", traits.emulator)
    for disk in _disks(record, files):
        devices.append(disk)
    for nic in spec.nics:
        devices.append(nic_element(nic, traits))
    _consoles(devices, files)
    if spec.guest_agent:
        channel = SubElement(devices, "channel", type="unix")
        SubElement(channel, "source", mode="bind", path=str(files.agent_socket))
        SubElement(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
    memory = SubElement(devices, "memballoon", model="virtio")
    SubElement(memory, "stats", period="10")
    entropy = SubElement(devices, "rng", model="virtio")
    _text(entropy, "backend", "/dev/urandom", model="random")
    return tostring(domain, encoding="unicode")


def metadata_xml(record: GuestRecord, host: str) -> str:
    """The metadata by itself, without its namespace: libvirt's setMetadata adds that."""
    return tostring(Element("guest", _metadata(record, host)), encoding="unicode")


def disk_element(source: Path, disk_format: str, device: str, serial: str | None = None) -> Element:
    disk = Element("disk", type="file", device="disk")
    SubElement(disk, "driver", name="qemu", type=disk_format, cache="writeback", discard="unmap")
    SubElement(disk, "source", file=str(source))
    SubElement(disk, "target", dev=device, bus="virtio")
    if serial:
        _text(disk, "serial", serial)
    return disk


def volume_element(volume: VolumeSpec) -> Element:
    assert volume.device is not None
    return disk_element(Path(volume.path), volume.disk_format, target(volume.device), volume.id)


def nic_element(nic: NicSpec, traits: HostTraits) -> Element:
    bridged = traits.bridged
    interface = Element("interface", type="bridge" if bridged else "user")
    SubElement(interface, "mac", address=nic.mac)
    if bridged:
        SubElement(interface, "source", bridge=bridge_name(nic.network_id))
    if bridged and traits.taps:
        SubElement(interface, "target", dev=tap_name(traits.taps, nic.port_id))
    SubElement(interface, "model", type="virtio")
    if bridged:
        SubElement(interface, "mtu", size=str(nic.mtu))
    for address in () if bridged else nic.addresses:
        network = ipaddress.ip_network(f"{address.address}/{address.prefix_length}", strict=False)
        family = f"ipv{network.version}"
        SubElement(interface, "ip", family=family, address=str(network.network_address), prefix=str(network.prefixlen))
    SubElement(interface, "rom", enabled="no")
    return interface


def root_volume(spec: GuestSpec) -> VolumeSpec | None:
    """The volume that a server without an image boots from."""
    if spec.image is not None:
        return None
    return next((volume for volume in spec.volumes if volume.boot_index == 0), None)


def with_devices(spec: GuestSpec, known: GuestSpec | None) -> dict[str, str]:
    """A device for every volume: the one it had, the one asked for, else the next free one."""
    before = {volume.id: volume.device for volume in known.volumes} if known else {}
    root = root_volume(spec)
    devices: dict[str, str] = {}
    for volume in spec.volumes:
        wanted = "/dev/vda" if root is volume else volume.device or before.get(volume.id)
        if wanted is not None:
            devices[volume.id] = wanted
    for volume in spec.volumes:
        if volume.id not in devices:
            devices[volume.id] = free_device({"/dev/vda", *devices.values()})
    return devices


def free_device(taken: set[str]) -> str:
    return next(name for letter in LETTERS if (name := f"/dev/vd{letter}") not in taken)


def target(device: str) -> str:
    return device.removeprefix("/dev/")


def image_of(record: GuestRecord) -> ImageSpec | None:
    """What the rescue disk is made of: the image asked for, else the guest's own."""
    return record.rescue.image if record.rescue and record.rescue.image else record.spec.image


def _metadata(record: GuestRecord, host: str) -> dict[str, str]:
    return {
        "host": host,
        "generation": str(record.generation),
        "order": record.order_id,
        "project": record.spec.project_id,
    }


def _disks(record: GuestRecord, files: GuestFiles) -> list[Element]:
    spec = record.spec
    root = root_volume(spec)
    own = (Path(root.path), root.disk_format, root.id) if root else (files.disk, "qcow2", None)
    disks = []
    if record.rescue and not record.rescue.stable:
        disks.append(disk_element(files.rescue_disk, "qcow2", "vda"))
        disks.append(disk_element(own[0], own[1], "vdb", own[2]))
    else:
        disks.append(disk_element(own[0], own[1], "vda", own[2]))
        disks.extend(volume_element(volume) for volume in spec.volumes if volume is not root)
        if record.rescue:
            taken = {"/dev/vda", *(volume.device or "" for volume in spec.volumes)}
            disks.append(disk_element(files.rescue_disk, "qcow2", target(free_device(taken))))
            SubElement(disks[-1], "boot", order="1")
    if files.config_drive.exists():
        drive = Element("disk", type="file", device="cdrom")
        SubElement(drive, "driver", name="qemu", type="raw")
        SubElement(drive, "source", file=str(files.config_drive))
        SubElement(drive, "target", dev="hda", bus="ide")
        SubElement(drive, "readonly")
        disks.append(drive)
    return disks


def _system(domain: Element, spec: GuestSpec, arch: str, *, boots_first_disk: bool) -> None:
    info = SubElement(domain, "sysinfo", type="smbios")
    system = SubElement(info, "system")
    for name, value in (
        ("manufacturer", "OpenStack Foundation"),
        ("product", "OpenStack Nova"),
        ("serial", spec.server_id),
        ("uuid", spec.server_id),
        ("family", "Virtual Machine"),
    ):
        _text(system, "entry", value, name=name)
    firmware = {"firmware": "efi"} if spec.uefi else {}
    boot = SubElement(domain, "os", firmware)
    _text(boot, "type", "hvm", arch=arch, machine="pc")
    if boots_first_disk:
        SubElement(boot, "boot", dev="hd")
    SubElement(boot, "smbios", mode="sysinfo")


def _consoles(devices: Element, files: GuestFiles) -> None:
    for kind in ("serial", "console"):
        port = SubElement(devices, kind, type="unix")
        SubElement(port, "source", mode="bind", path=str(files.serial_socket))
        if kind == "serial":
            SubElement(port, "log", file=str(files.console_log), append="on")
            SubElement(port, "target", port="0")
        else:
            SubElement(port, "target", type="serial", port="0")
    # A socket, not a port: hosts on one machine would race for the same port, and nobody else can connect.
    screen = SubElement(devices, "graphics", type="vnc")
    SubElement(screen, "listen", type="socket", socket=str(files.screen_socket))
    video = SubElement(devices, "video")
    SubElement(video, "model", type="vga", vram="16384")


def _text(parent: Element, tag: str, text: str, **attributes: str) -> Element:
    element = SubElement(parent, tag, attributes)
    element.text = text
    return element
