"""The data of an image, streamed both ways.

Upload: `queued` becomes `saving`, the data is stored and checked, then the image is `active` with size and digests.
Whatever interrupts it, the image is left `queued` (or, when the process is killed, `saving`) and can be uploaded again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from api.http import caller, context, services
from api.image import store
from api.image.store import Upload
from api.image.view import own_image, visible_image
from commands.handler import Check
from domain import images
from domain.errors import Conflict, Forbidden, NotFound, Rejected
from domain.resources import Image

OCTETS = "application/octet-stream"


async def upload(request: Request) -> Response:
    """Store the data of a queued image"""
    image, known = await own_image(request), services(request)
    if request.headers.get("content-type", OCTETS).partition(";")[0].strip().lower() != OCTETS:
        raise Rejected("Unsupported Content-Type", hint=f"Send {OCTETS}", code=415, reason="media_type")
    directory, settings = known.settings.images_dir, known.settings
    left = settings.image_store_bytes - await asyncio.to_thread(store.used_bytes, directory)
    begun = await _change(request, image.id, "save", images.begin_upload)
    try:
        async with Upload(directory, image.id, begun.disk_format or "", min(settings.max_image_bytes, left)) as part:
            stored = await part.take(_stream(request))
    except BaseException as error:
        if not isinstance(error, Conflict):  # that would be another upload, which goes on
            with suppress(Rejected):
                await asyncio.shield(_change(request, image.id, "abandon", images.abandon_upload))
        raise
    fields = {
        "size": stored.size,
        "virtual_size": stored.virtual_size,
        "checksum": stored.md5,
        "os_hash_algo": "sha512",
        "os_hash_value": stored.sha512,
    }
    try:
        await _change(request, image.id, "activate", partial(images.end_upload, stored=fields))
    except NotFound:  # deleted meanwhile
        await asyncio.to_thread(store.remove, directory, image.id)
        raise
    return Response(status_code=204)


async def _stream(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        yield piece


async def _change(request: Request, image_id: str, verb: str, check: Check) -> Image:
    changed = await services(request).commands.update("image", image_id, {}, context(request), verb=verb, check=check)
    assert isinstance(changed, Image), "the command side answers with the kind that was asked for"
    return changed


async def download(request: Request) -> Response:
    """The data of an image; ranges are honoured"""
    image = await visible_image(request)
    if image.status == "deactivated" and not caller(request).is_admin:
        raise Forbidden(f"Image {image.id} is deactivated and cannot be downloaded")
    if image.status not in ("active", "deactivated"):
        return Response(status_code=204)
    path = services(request).settings.images_dir / image.id
    if not await asyncio.to_thread(path.is_file):
        raise NotFound(f"The data of image {image.id} is not in the image store", hint="Upload it as a new image")
    headers = {"Content-MD5": image.checksum} if image.checksum else {}
    return FileResponse(path, media_type=OCTETS, headers=headers)


def routes() -> list[BaseRoute]:
    return [
        Route("/v2/images/{id}/file", upload, methods=["PUT"]),
        Route("/v2/images/{id}/file", download, methods=["GET"]),
    ]
