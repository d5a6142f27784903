"""What may happen to an image: its status, who shares it, its tags. Pure: a state and what is asked, to the change.

Each function returns the fields to change, None when it already is so, and raises `Rejected` when it may not be.

    queued ──upload──► saving ──► active ◄──► deactivated
       ▲                 │ └──► killed
       └────abandoned────┘

Killed is what a server or a volume was to fill and does not: nobody can begin it anew.
"""

from __future__ import annotations

from typing import Any

from domain.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from domain.resources import Image
from domain.server import Server

MOST_MEMBERS = 128
MOST_TAGS = 128
LONGEST_TAG = 255
ANSWERS = ("pending", "accepted", "rejected")

Change = dict[str, Any] | None


def made_from(server: Server, kind: str, name: str | None, params: dict[str, Any]) -> dict[str, Any]:
    """The fields of the image that a command makes of a server, before its data is there. `kind`: snapshot, backup."""
    properties = server.image_properties | {
        "image_type": kind,
        "instance_uuid": server.id,
        "user_id": server.user_id,
        "base_image_ref": server.image_id or "",
    }
    if "backup_type" in params:
        properties["backup_type"] = params["backup_type"]
    return {
        "name": name or f"{server.name}-shelved",
        "project_id": server.project_id,
        "owner_user_id": server.user_id,
        "made_for": server.id,
        "visibility": "private",
        "status": "queued",
        "disk_format": "qcow2",
        "container_format": "bare",
        "min_disk": server.flavor.disk if server.flavor else 0,
        "properties": properties | params.get("metadata", {}),
    }


def delete(image: Image) -> Change:
    if image.protected:
        raise Forbidden(f"Image {image.id} is protected and cannot be deleted.", hint="Set protected to false first.")
    return None


def deactivate(image: Image) -> Change:
    return _switch(image, "active", "deactivated")


def reactivate(image: Image) -> Change:
    return _switch(image, "deactivated", "active")


def _switch(image: Image, before: str, after: str) -> Change:
    if image.status == after:
        return None
    if image.status != before:
        raise Forbidden(
            f"Not allowed to bring image {image.id} from status '{image.status}' to '{after}'",
            hint=f"Only an image that is {before} can become {after}.",
        )
    return {"status": after}


def begin_saving(image: Image) -> Change:
    """The host of a server is about to write its data."""
    return _move(image, ("queued", "saving"), {"status": "saving"})


def begin_upload(image: Image) -> Change:
    """Data is on its way from a user. An upload that a killed process left is begun anew."""
    if image.status == "saving" and (image.made_for or image.volume_id):
        raise Conflict(f"Image {image.id} is being filled already.", hint="Wait for it to end.")
    if not image.disk_format or not image.container_format:
        raise Invalid(
            "Properties disk_format, container_format must be set prior to saving data.",
            hint="Set both, then upload again.",
        )
    return _move(image, ("queued", "saving"), {"status": "saving"})


def end_upload(image: Image, stored: dict[str, Any]) -> Change:
    """The data is there. `stored`: its size and digests."""
    return _move(image, ("saving",), {"status": "active"} | stored)


def abandon_upload(image: Image) -> Change:
    return _move(image, ("saving",), {"status": "queued"})


def cut_off(image: Image) -> Change:
    """Nobody fills it any more, and nobody can begin anew."""
    return {"status": "killed"} if image.status in ("queued", "saving") else None


def _move(image: Image, before: tuple[str, ...], fields: dict[str, Any]) -> Change:
    if image.status not in before:
        raise Conflict(
            f"Image status transition from {image.status} to {fields['status']} is not allowed",
            hint="Data can be uploaded once: create another image.",
        )
    return None if image.status == fields["status"] else fields


def add_tag(image: Image, tag: str) -> Change:
    if len(tag) > LONGEST_TAG:
        raise Invalid(f"A tag has at most {LONGEST_TAG} characters", hint="Choose a shorter one.")
    if tag in image.tags:
        return None
    if len(image.tags) >= MOST_TAGS:
        raise TooLarge(f"An image has at most {MOST_TAGS} tags", hint="Remove one first.")
    return {"tags": sorted({*image.tags, tag})}


def remove_tag(image: Image, tag: str) -> Change:
    if tag not in image.tags:
        raise NotFound(f"Image {image.id} has no tag {tag}", hint="GET the image to see its tags.")
    return {"tags": [one for one in image.tags if one != tag]}


def share(image: Image, project_id: str) -> Change:
    if image.visibility != "shared":
        raise Forbidden("Only shared images have members.", hint="Set visibility to shared.")
    if project_id in image.members:
        raise Conflict(f"Member {project_id} is duplicated for image {image.id}", hint="It has the image already.")
    if len(image.members) >= MOST_MEMBERS:
        raise TooLarge(
            f"An image is shared with at most {MOST_MEMBERS} projects", hint="Make it public, or remove a member."
        )
    return {"members": {**image.members, project_id: "pending"}}


def answer(image: Image, project_id: str, status: str) -> Change:
    """What a project says to an image that is shared with it."""
    if status not in ANSWERS:
        raise Invalid(
            f"status has to be one of {', '.join(ANSWERS)}", hint="accepted shows the image, rejected hides it."
        )
    _must_be_member(image, project_id)
    return {"members": {**image.members, project_id: status}}


def unshare(image: Image, project_id: str) -> Change:
    _must_be_member(image, project_id)
    return {"members": {key: value for key, value in image.members.items() if key != project_id}}


def _must_be_member(image: Image, project_id: str) -> None:
    if project_id not in image.members:
        raise no_member(image, project_id)


def no_member(image: Image, project_id: str) -> NotFound:
    return NotFound(
        f"{project_id} not found in the member list of the image {image.id}.", hint="Its owner shares an image first."
    )
