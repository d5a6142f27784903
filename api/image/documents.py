"""Version documents, schemas and the few information pages that image clients ask for."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http import Json
from api.image.fields import CONTAINER_FORMATS, DISK_FORMATS, VISIBILITIES
from api.image.view import visible_image
from api.links import base_url

_TEXT = {"type": ["null", "string"], "maxLength": 255}
_READ_ONLY_TEXT = {"type": ["null", "string"], "readOnly": True}
_READ_ONLY_NUMBER = {"type": ["null", "integer"], "readOnly": True}

IMAGE: dict[str, Any] = {
    "name": "image",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9a-fA-F-]{36}$"},
        "name": _TEXT,
        "status": {
            "type": "string",
            "readOnly": True,
            "enum": ["queued", "saving", "active", "killed", "deleted", "deactivated"],
        },
        "visibility": {"type": "string", "enum": list(VISIBILITIES)},
        "protected": {"type": "boolean"},
        "os_hidden": {"type": "boolean"},
        "checksum": _READ_ONLY_TEXT,
        "os_hash_algo": _READ_ONLY_TEXT,
        "os_hash_value": _READ_ONLY_TEXT,
        "owner": _TEXT,
        "size": _READ_ONLY_NUMBER,
        "virtual_size": _READ_ONLY_NUMBER,
        "container_format": {"type": ["null", "string"], "enum": [None, *CONTAINER_FORMATS]},
        "disk_format": {"type": ["null", "string"], "enum": [None, *DISK_FORMATS]},
        "created_at": _READ_ONLY_TEXT,
        "updated_at": _READ_ONLY_TEXT,
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 255}},
        "min_ram": {"type": "integer"},
        "min_disk": {"type": "integer"},
        "self": _READ_ONLY_TEXT,
        "file": _READ_ONLY_TEXT,
        "schema": _READ_ONLY_TEXT,
    },
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}
MEMBER: dict[str, Any] = {
    "name": "member",
    "properties": {
        "image_id": {"type": "string"},
        "member_id": {"type": "string"},
        "status": {"type": "string", "enum": ["pending", "accepted", "rejected"]},
        "created_at": {"type": "string"},
        "updated_at": {"type": "string"},
        "schema": {"type": "string"},
    },
}


def _collection(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "properties": {
            name: {"type": "array", "items": item},
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
    }


SCHEMAS = {
    "image": IMAGE,
    "images": _collection("images", IMAGE),
    "member": MEMBER,
    "members": _collection("members", MEMBER),
}


async def versions(request: Request) -> Response:
    """The versions of this API"""
    link = {"rel": "self", "href": f"{base_url(request)}/image/v2/"}
    found = [
        {"id": f"v2.{minor}", "status": "CURRENT" if minor == 9 else "SUPPORTED", "links": [link]}
        for minor in (9, 7, 6, 5, 4, 3, 2, 1, 0)
    ]
    return Json({"versions": found}, status_code=300)


async def schema(request: Request) -> Response:
    """The JSON schema of an image, a member, or a list of them"""
    return Json(SCHEMAS[request.url.path.rpartition("/")[2]])


async def import_info(request: Request) -> Response:
    """The ways to import data: none, data is uploaded"""
    return Json({"import-methods": {"description": "Import methods available.", "type": "array", "value": []}})


async def stores_info(request: Request) -> Response:
    """The image stores: there is one, without a name"""
    return Json({"stores": []})


async def tasks(request: Request) -> Response:
    """The tasks of an image: none, everything happens in the request"""
    await visible_image(request)
    return Json({"tasks": []})


async def all_tasks(request: Request) -> Response:
    """All tasks: none, everything happens in the request"""
    return Json({"tasks": [], "first": "/v2/tasks", "schema": "/v2/schemas/tasks"})


def routes() -> list[BaseRoute]:
    return [
        Route("/", versions),
        Route("/versions", versions),
        *(Route(f"/v2/schemas/{name}", schema) for name in SCHEMAS),
        Route("/v2/info/import", import_info),
        Route("/v2/info/stores", stores_info),
        Route("/v2/images/{id}/tasks", tasks),
        Route("/v2/tasks", all_tasks),
    ]
