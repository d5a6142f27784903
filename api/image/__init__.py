"""Image v2: images and their data."""

from __future__ import annotations

import asyncio

from starlette.routing import BaseRoute

from api.image import data, documents, images, members, store
from api.services import Services


def routes(services: Services) -> list[BaseRoute]:
    return [*documents.routes(), *images.routes(), *data.routes(), *members.routes()]


async def clean_up(services: Services) -> None:
    """Remove the remains of uploads that were killed. Called before the first request."""
    await asyncio.to_thread(store.clean_up, services.settings.images_dir)
