"""/os-assisted-volume-snapshots: refused (501). It is the call-back of a block storage service that stands by itself.

Here the volume API is part of the same program, and its snapshots of volumes in use are orders to the hosts.
"""

from __future__ import annotations

from api.compute.call import Call, Reply
from api.compute.dispatch import Route
from api.compute.policy import enforce
from domain.errors import NotImplementedHere


def _by_the_volume_api() -> NotImplementedHere:
    return NotImplementedHere("This call-back is not served.", hint="Ask for the snapshot: POST /volume/v3/snapshots.")


async def create(call: Call) -> Reply:
    """Not served: snapshots are the volume API's"""
    enforce(call, "os_compute_api:os-assisted-volume-snapshots:create")
    raise _by_the_volume_api()


async def delete(call: Call) -> Reply:
    """Not served: snapshots are the volume API's"""
    enforce(call, "os_compute_api:os-assisted-volume-snapshots:delete")
    raise _by_the_volume_api()


ROUTES = [
    Route("POST", "/os-assisted-volume-snapshots", create),
    Route("DELETE", "/os-assisted-volume-snapshots/{}", delete),
]
