"""What a resize order asks for: vcpus, MiB of memory, GiB of disk."""

from __future__ import annotations

from domain.orders import Order
from hypervisor_agent.driver import OrderFailed


def new_hardware(order: Order) -> tuple[int, int, int]:
    """The new flavor's (vcpus, memory_mb, disk_gb). A server that was never resized names none: the guest's own."""
    flavor = order.params.get("flavor")
    if flavor is None:
        return order.spec.vcpus, order.spec.memory_mb, order.spec.disk_gb
    try:
        return int(flavor["vcpus"]), int(flavor["ram"]), int(flavor["disk"])
    except (KeyError, TypeError, ValueError) as error:
        raise OrderFailed(
            "bad_order", "The order's flavor needs vcpus, ram (MiB) and disk (GiB). Report this as a bug.", repr(error)
        ) from error
