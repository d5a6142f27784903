"""How an image looks to a caller, which images a caller sees, and which it may change."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from api.auth import Caller
from api.http import caller, services, timestamp
from domain.errors import Forbidden, NotFound
from domain.resources import Image

# Fields of the schema: everything else at the top level is a free property.
BASE_FIELDS = frozenset(
    {
        "id",
        "name",
        "status",
        "visibility",
        "container_format",
        "disk_format",
        "min_disk",
        "min_ram",
        "size",
        "virtual_size",
        "checksum",
        "os_hash_algo",
        "os_hash_value",
        "os_hidden",
        "protected",
        "owner",
        "tags",
        "created_at",
        "updated_at",
        "self",
        "file",
        "schema",
        "locations",
        "direct_url",
        "stores",
    }
)


def image_view(image: Image) -> dict[str, Any]:
    base = f"/v2/images/{image.id}"
    return {
        **image.properties,
        "id": image.id,
        "name": image.name or None,
        "status": image.status,
        "visibility": image.visibility,
        "container_format": image.container_format,
        "disk_format": image.disk_format,
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "checksum": image.checksum,
        "os_hash_algo": image.os_hash_algo,
        "os_hash_value": image.os_hash_value,
        "os_hidden": image.os_hidden,
        "protected": image.protected,
        "owner": image.project_id,
        "tags": list(image.tags),
        "created_at": timestamp(image.created_at),
        "updated_at": timestamp(image.updated_at),
        "self": base,
        "file": f"{base}/file",
        "schema": "/v2/schemas/image",
    }


def may_see(who: Caller, image: Image) -> bool:
    if who.is_admin or image.visibility in ("public", "community") or image.project_id == who.project_id:
        return True
    return image.visibility == "shared" and who.project_id in image.members


async def visible_image(request: Request, key: str = "id") -> Image:
    """The image that the path names. 404 for one that does not exist or that the caller may not see."""
    id_ = request.path_params[key]
    found = await services(request).read.resource("image", id_)
    if not isinstance(found, Image) or found.deleted or not may_see(caller(request), found):
        raise NotFound(f"No image found with ID {id_}")
    return found


async def own_image(request: Request, key: str = "id") -> Image:
    """The image that the path names, which the caller may change. 403 for one that it may only see."""
    image, who = await visible_image(request, key), caller(request)
    if who.is_admin:
        return image
    if image.project_id != who.project_id:
        raise Forbidden(f"Image {image.id} belongs to another project", hint="Its owner or an admin can change it")
    must_be_member(who)
    return image


def must_be_member(who: Caller) -> None:
    if "member" not in who.roles or (who.project_id is None and not who.is_admin):
        raise Forbidden("You are not authorized to complete this action", hint="It needs the role member in a project")
