"""Rescue: boot a disk made of an image, with the guest's own disk second, so that its owner can repair it; and back.

As in Nova, volumes stay out while the guest is rescued, unless the image asks for a stable device rescue (by the
property hw_rescue_device or hw_rescue_bus): then all disks keep their names, and the rescue disk comes after them and
is booted. A server that boots from a volume is rescued only so.
"""

from __future__ import annotations

from typing import Any

import msgspec

from domain.orders import ImageSpec
from hypervisor_agent.driver import OrderFailed
from hypervisor_agent.libvirt.domain_xml import image_of, root_volume
from hypervisor_agent.libvirt.power import grace_seconds
from hypervisor_agent.libvirt.record import Rescue
from hypervisor_agent.libvirt.work import Work

Details = dict[str, Any]


async def rescue(work: Work) -> Details:
    record = work.record
    image = work.order.params.get("image")
    with work.step("stop guest", 10):
        await work.guest.shut_off(grace_seconds(work))
    chosen = msgspec.convert(image, ImageSpec) if image else None
    record.rescue = Rescue(chosen, stable=chosen is not None and is_stable(chosen))
    if root_volume(record.spec) is not None and not record.rescue.stable:
        raise OrderFailed(
            "volume_backed",
            "A server that boots from a volume is rescued with an image that has the property hw_rescue_device or "
            "hw_rescue_bus. Name such an image.",
        )
    source = image_of(record)
    if source is None:
        raise OrderFailed("no_image", "The server has no image to be rescued with. Name a rescue image.")
    with work.step("create rescue disk", 40, 60) as copied:
        async with work.services.images_lock:
            await work.overlay(work.files.rescue_disk, source, 1, copied)
            work.remember(record)
    with work.step("start guest", 60):
        await work.prepare(work.order.params.get("admin_password"))
        await work.start()
    return {}


def is_stable(image: ImageSpec) -> bool:
    """Whether an image wants to be put beside a guest's disks. Nova's stable device rescue, by its image properties."""
    return "hw_rescue_device" in image.properties or "hw_rescue_bus" in image.properties


async def unrescue(work: Work) -> Details:
    record = work.record
    with work.step("stop guest", 10):
        await work.guest.shut_off(grace_seconds(work))
    record.rescue = None
    work.remember(record)
    with work.step("start guest", 50):
        await work.prepare()
        await work.start()
    work.files.rescue_disk.unlink(missing_ok=True)
    await work.remove_unused_images()
    return {}
