"""Image properties that ask for hardware: what a guest of this deployment has, and a clear refusal of anything else.

Nova's names and values. A property that is not here asks for nothing that a guest would miss; the flavor, or nothing,
decides then.
"""

from __future__ import annotations

from collections.abc import Mapping

from domain.errors import Invalid

YES = frozenset({"1", "t", "true", "on", "y", "yes"})
NO = frozenset({"0", "f", "false", "off", "n", "no"})

_SERVED: dict[str, frozenset[str]] = {
    "hw_architecture": frozenset({"x86_64"}),
    "hw_cdrom_bus": frozenset({"ide"}),
    "hw_disk_bus": frozenset({"virtio"}),
    "hw_firmware_type": frozenset({"bios"}),
    "hw_machine_type": frozenset({"pc"}),
    "hw_mem_encryption": NO,
    "hw_qemu_guest_agent": YES | NO,
    "hw_rescue_bus": frozenset({"virtio"}),
    "hw_rescue_device": frozenset({"disk"}),
    "hw_rng_model": frozenset({"virtio"}),
    "hw_tpm_model": frozenset(),
    "hw_tpm_version": frozenset(),
    "hw_vif_model": frozenset({"virtio"}),
    "hw_video_model": frozenset({"vga"}),
    "hw_watchdog_action": frozenset({"disabled"}),
    "os_require_quiesce": YES | NO,
    "os_secure_boot": frozenset({"disabled", "optional"}),
}


def must_be_served(properties: Mapping[str, str]) -> None:
    """Raise `Invalid` for the first property whose value no guest gets."""
    for name in sorted(_SERVED.keys() & properties.keys()):
        value, served = str(properties[name]).strip().lower(), _SERVED[name]
        if value not in served:
            hint = f"It can be {' or '.join(sorted(served))}; or unset" if served else "Unset"
            raise Invalid(
                f"Invalid image metadata. Error: {name}={properties[name]} is not offered here.",
                hint=f"{hint} it: openstack image unset --property {name} <image>",
                reason="image_property",
            )


def has_guest_agent(properties: Mapping[str, str]) -> bool:
    """Whether its guest gets the channel of the guest agent: as long as the image does not say no."""
    return str(properties.get("hw_qemu_guest_agent", "yes")).strip().lower() not in NO


def requires_quiesce(properties: Mapping[str, str]) -> bool:
    """Whether no copy of its disks may be made without its file systems being frozen."""
    return str(properties.get("os_require_quiesce", "no")).strip().lower() in YES
