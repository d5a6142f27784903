"""Looking without touching: console text, a guest's diagnostics in Nova's shape, the host's processor. Blocking."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import libvirt

from hypervisor_agent.libvirt.guest import power_state_of

NIC_COUNTERS = (
    "rx_octets",
    "rx_packets",
    "rx_errors",
    "rx_drop",
    "tx_octets",
    "tx_packets",
    "tx_errors",
    "tx_drop",
)
DISK_COUNTERS = ("read_requests", "read_bytes", "write_requests", "write_bytes", "errors_count")
CONSOLE_LIMIT = 100 * 1024  # bytes that are read from the end, as Nova does


def console_text(log: Path, lines: int | None) -> str:
    """The end of the serial console's log, over its rotation by virtlogd."""
    data = b""
    for path in (log, log.with_name(f"{log.name}.0")):
        if path.exists() and len(data) < CONSOLE_LIMIT:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - (CONSOLE_LIMIT - len(data))))
                data = file.read() + data
    text = data.decode(errors="replace").replace("\r\n", "\n")
    if lines is None:
        return text
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""


def diagnostics(domain: Any, *, config_drive: bool) -> dict[str, Any]:
    """As `GET /servers/{id}/diagnostics` shows since 2.48; the `device` of each disk is for its older form.

    Counters are null for a guest that is off.
    """
    definition = fromstring(domain.XMLDesc())
    active = bool(domain.isActive())
    _state, maximum_kib, memory_kib, vcpus, cpu_ns = domain.info()
    result: dict[str, Any] = {
        "state": power_state_of(domain),
        "driver": "libvirt",
        "hypervisor": definition.get("type"),
        "hypervisor_os": "linux",
        "config_drive": config_drive,
        "num_cpus": vcpus,
        "cpu_details": _cpus(domain, vcpus, cpu_ns) if active else [],
        "memory_details": {"maximum": maximum_kib // 1024, "used": memory_kib // 1024 if active else 0},
        "nic_details": [],
        "disk_details": [],
    }
    for nic in definition.findall("devices/interface"):
        mac, device = nic.find("mac"), nic.find("target")
        counters = _counters(domain.interfaceStats, device.get("dev") if device is not None and active else None, 8)
        details = {"mac_address": mac.get("address") if mac is not None else None, "rx_rate": None, "tx_rate": None}
        result["nic_details"].append(details | dict(zip(NIC_COUNTERS, counters, strict=True)))
    for disk in definition.findall("devices/disk"):
        target = disk.find("target")
        name = target.get("dev") if target is not None else None
        counters = _counters(domain.blockStats, name if active else None, 5)
        result["disk_details"].append({"device": name} | dict(zip(DISK_COUNTERS, counters, strict=True)))
    result["num_nics"], result["num_disks"] = len(result["nic_details"]), len(result["disk_details"])
    return result


def host_cpu(capabilities: str) -> dict[str, Any]:
    cpu = fromstring(capabilities).find("host/cpu")
    if cpu is None:
        return {}
    topology = cpu.find("topology")
    return {
        "arch": cpu.findtext("arch"),
        "model": cpu.findtext("model"),
        "vendor": cpu.findtext("vendor"),
        "topology": {name: int(topology.get(name, "1")) for name in ("sockets", "cores", "threads")}
        if topology is not None
        else {},
        "features": sorted(feature.get("name", "") for feature in cpu.findall("feature")),
    }


def _cpus(domain: Any, vcpus: int, cpu_ns: int) -> list[dict[str, Any]]:
    try:
        times = [info[2] for info in domain.vcpus()[0]]
    except libvirt.libvirtError:
        times = [cpu_ns // vcpus] * vcpus
    return [{"id": number, "time": time, "utilisation": None} for number, time in enumerate(times)]


def _counters(read: Any, device: str | None, count: int) -> list[int | None]:
    """libvirt's numbers for a device; null where it has none (-1), or nothing to ask."""
    if device is None:
        return [None] * count
    try:
        return [value if value >= 0 else None for value in read(device)]
    except libvirt.libvirtError:
        return [None] * count
