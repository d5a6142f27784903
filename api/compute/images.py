"""Images as the compute API of old showed them, until 2.35, their metadata until 2.38: a read-only copy.

The form is Nova's own, older than the image API's. What changes an image is done there (`api.compute.gone`). Which
images a caller is shown is the image API's rule too: hidden ones, others' community images and shared ones that the
project has not accepted are shown when they are named, and not listed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlencode

from api.compute.call import Call, Reply, flag, reply
from api.compute.dispatch import Route
from api.compute.lookups import image_of, integer
from api.compute.servers_view import hrefs, view_of
from api.compute.times import parse, seconds
from api.listing import all_living
from domain.errors import Invalid, NotFound
from domain.resources import Image

UNTIL, METADATA_UNTIL = 35, 38
_STATUSES = {"active": "ACTIVE", "queued": "SAVING", "saving": "SAVING", "killed": "ERROR"}
_PROGRESS = {"queued": 25, "saving": 50, "active": 100}

# What a query may filter by; a parameter `property-NAME` is the property of that name.
_FILTERS: dict[str, Callable[[Image, str], bool]] = {
    "name": lambda image, text: image.name == text,
    "status": lambda image, text: image.status == text.lower(),
    "server": lambda image, text: image.properties.get("instance_uuid") == text.rpartition("/")[2],
    "type": lambda image, text: image.properties.get("image_type") == text,
    "minRam": lambda image, text: str(image.min_ram) == text,
    "minDisk": lambda image, text: str(image.min_disk) == text,
}


def brief(call: Call, image: Image) -> dict[str, Any]:
    return {"id": image.id, "name": image.name or None, "links": _links(call, image)}


def detail(call: Call, image: Image) -> dict[str, Any]:
    """`progress` is a word for the status, as with Nova: how far a copy is shows the server that makes it."""
    properties = image.properties
    body = brief(call, image) | {
        "minRam": image.min_ram,
        "minDisk": image.min_disk,
        "metadata": properties,
        "created": seconds(image.created_at),
        "updated": seconds(image.updated_at),
        "status": _STATUSES.get(image.status, "UNKNOWN"),
        "progress": _PROGRESS.get(image.status, 0),
        "OS-EXT-IMG-SIZE:size": image.size,
    }
    if "instance_uuid" in properties:
        server_id = properties["instance_uuid"]
        body["server"] = {"id": server_id, "links": _own_and_bookmark(call, "servers", server_id)}
    if "auto_disk_config" in properties:
        body["OS-DCF:diskConfig"] = "AUTO" if flag(properties["auto_disk_config"]) else "MANUAL"
    return body


def _own_and_bookmark(call: Call, kind: str, id_: str) -> list[dict[str, str]]:
    own, bookmark = hrefs(view_of(call), kind, id_)
    return [{"rel": "self", "href": own}, {"rel": "bookmark", "href": bookmark}]


def _links(call: Call, image: Image) -> list[dict[str, str]]:
    """The third is where the image API has it."""
    place = f"{call.root.removesuffix('/compute')}/image/v2/images/{image.id}"
    alternate = {"rel": "alternate", "type": "application/vnd.openstack.image", "href": place}
    return [*_own_and_bookmark(call, "images", image.id), alternate]


async def index(call: Call) -> Reply:
    images, more = await _page(call, "images")
    return reply({"images": [brief(call, image) for image in images]} | more)


async def detailed(call: Call) -> Reply:
    images, more = await _page(call, "images/detail")
    return reply({"images": [detail(call, image) for image in images]} | more)


async def _page(call: Call, path: str) -> tuple[list[Image], dict[str, Any]]:
    """The newest first, and a link to the following page when there is one."""
    since = call.argument("changes-since")
    after = parse(since, "changes-since") if since else None
    found = [cast(Image, one) for one in await all_living(call.services, "image")]
    images = [image for image in found if _is_listed(call, image) and _fits(call, image)]
    if after is not None:
        images = [image for image in images if image.updated_at is not None and image.updated_at >= after]
    images.sort(key=lambda image: (seconds(image.created_at) or "", image.id), reverse=True)
    marker = call.argument("marker")
    if marker is not None:
        at = next((index for index, image in enumerate(images) if image.id == marker), None)
        if at is None:
            raise Invalid(f"marker [{marker}] not found")
        images = images[at + 1 :]
    most = call.services.settings.page_limit
    limit = min(integer(call, "limit") or most, most)
    if len(images) <= limit:
        return images, {}
    pairs = [(name, value) for name, values in call.query.items() if name != "marker" for value in values]
    query = urlencode([*pairs, ("marker", images[limit - 1].id)])
    link = {"rel": "next", "href": f"{call.root}/v2.1{call.project_path}/{path}?{query}"}
    return images[:limit], {"images_links": [link]}


def _is_listed(call: Call, image: Image) -> bool:
    if image.os_hidden:
        return False
    if image.project_id == call.project_id:
        return True
    if image.visibility == "community":
        return False
    accepted = image.visibility == "shared" and image.members.get(call.project_id or "") == "accepted"
    return call.is_admin or accepted or image.visibility == "public"


def _fits(call: Call, image: Image) -> bool:
    for name, values in call.query.items():
        text = values[-1]
        if name in _FILTERS and not _FILTERS[name](image, text):
            return False
        if name.startswith("property-") and image.properties.get(name.removeprefix("property-")) != text:
            return False
    return True


async def _image(call: Call) -> Image:
    image = await image_of(call, call.params[0])
    if image is None:
        raise NotFound("Image not found.")
    return image


async def show(call: Call) -> Reply:
    return reply({"image": detail(call, await _image(call))})


async def show_metadata(call: Call) -> Reply:
    return reply({"metadata": (await _image(call)).properties})


async def show_item(call: Call) -> Reply:
    properties, key = (await _image(call)).properties, call.params[1]
    if key not in properties:
        raise NotFound("Metadata item was not found")
    return reply({"meta": {key: properties[key]}})


ROUTES = [
    Route("GET", "/images", index, until=UNTIL),
    Route("GET", "/images/detail", detailed, until=UNTIL),
    Route("GET", "/images/{}", show, until=UNTIL),
    Route("GET", "/images/{}/metadata", show_metadata, until=METADATA_UNTIL),
    Route("GET", "/images/{}/metadata/{}", show_item, until=METADATA_UNTIL),
]
