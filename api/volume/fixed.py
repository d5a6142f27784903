"""What is the same in every deployment: versions, the one volume type, zone and service, and what there is none of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json
from api.identity.access import must_be_admin
from api.links import base_url
from api.microversions import text_of
from api.volume.access import moment
from api.volume.paths import VERSIONS, both
from domain.errors import NotFound, Rejected

ZONE = "nova"
TYPE = "default"
TYPE_ID = str(uuid5(NAMESPACE_URL, "chronova:volume-type:default"))
_EMPTY = {
    "backups": "backups",
    "consistencygroups": "consistencygroups",
    "groups": "groups",
    "group_types": "group_types",
    "os-volume-transfer": "transfers",
    "volume-transfers": "transfers",
    "qos-specs": "qos_specs",
    "messages": "messages",
    "extensions": "extensions",
    "clusters": "clusters",
    "default-types": "default_types",
}
_INSTEAD = {
    "backups": "Make a snapshot, or an image of the volume: openstack image create --volume",
    "types": f"There is one, {TYPE}; a volume belongs to one server at a time",
}


def _version(request: Request) -> dict[str, Any]:
    return {
        "id": "v3.0",
        "status": "CURRENT",
        "version": text_of(VERSIONS.highest),
        "min_version": "3.0",
        "updated": "2020-01-01T00:00:00Z",
        "links": [{"rel": "self", "href": f"{base_url(request)}/volume/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}],
    }


async def versions(request: Request) -> Response:
    """The versions of this API"""
    return Json({"versions": [_version(request)]}, status_code=300)


async def version(request: Request) -> Response:
    """Version 3"""
    return Json({"versions": [_version(request)]})


def _type() -> dict[str, Any]:
    return {
        "id": TYPE_ID,
        "name": TYPE,
        "description": "A qcow2 file of the volume store",
        "is_public": True,
        "os-volume-type-access:is_public": True,
        "qos_specs_id": None,
        "extra_specs": {},
    }


async def list_types(request: Request) -> Response:
    """The one volume type"""
    return Json({"volume_types": [_type()]})


async def show_type(request: Request) -> Response:
    """One volume type"""
    if request.path_params["id"] not in ("default", TYPE_ID):
        raise NotFound(f"Volume type {request.path_params['id']} could not be found.")
    return Json({"volume_type": _type()})


async def zones(request: Request) -> Response:
    """The one availability zone"""
    return Json({"availabilityZoneInfo": [{"zoneName": ZONE, "zoneState": {"available": True}}]})


async def services(request: Request) -> Response:
    """The one service, which is this API itself"""
    must_be_admin(request)
    one = {
        "binary": "cinder-volume",
        "host": "chronova",
        "zone": ZONE,
        "status": "enabled",
        "state": "up",
        "updated_at": moment(datetime.now(UTC)),
        "disabled_reason": None,
    }
    return Json({"services": [one]})


async def empty(request: Request) -> Response:
    """An empty list: there are none here"""
    names = [part for part in request.url.path.split("/") if part in _EMPTY]
    return Json({_EMPTY[names[0]]: []})


async def missing(request: Request) -> Response:
    """Not found: there are none here"""
    raise NotFound(f"{request.path_params['id']} could not be found.")


async def not_offered(request: Request) -> Response:
    """Not offered here"""
    what = next((part for part in request.url.path.split("/") if part in _INSTEAD), "")
    raise Rejected(
        "This is not offered here" if not what else f"Volume {what} are not offered here",
        code=501,
        reason="not_implemented",
        hint=_INSTEAD.get(what, "Volumes and snapshots are"),
    )


def routes() -> list[BaseRoute]:
    found: list[BaseRoute] = [
        Route("/", versions),
        Route("/v3", version),
        *both("/types", list_types),
        *both("/types", not_offered, ["POST"]),
        *both("/types/{id}", show_type),
        *both("/types/{id}", not_offered, ["PUT", "DELETE"]),
        *both("/os-availability-zone", zones),
        *both("/os-services", services),
    ]
    for collection in _EMPTY:
        found += both(f"/{collection}", empty)
        found += both(f"/{collection}", not_offered, ["POST"])
        found += both(f"/{collection}/detail", empty)
        found += both(f"/{collection}/{{id}}", missing, ["GET", "PUT", "DELETE"])
    return found
