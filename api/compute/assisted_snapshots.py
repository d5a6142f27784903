"""/os-assisted-volume-snapshots: refused (501), for the service that would call it is not needed.

Nova has its hosts snapshot the volume files of guests when a block storage service asks for it. Here that service is
part of the same program and does so by itself.
"""

from __future__ import annotations

from api.compute.call import Call, Reply
from api.compute.dispatch import Route
from api.compute.policy import enforce
from domain.errors import NotImplementedHere


def _by_the_volume_api() -> NotImplementedHere:
    return NotImplementedHere("Hosts take no snapshots of volumes for others.", hint="Use /volume/v3/snapshots.")


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
