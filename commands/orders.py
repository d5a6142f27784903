"""Orders: derived from a server's state, put on the stream that its host takes them from.

Publishing one twice is harmless (the agent knows the generation), so after a restart every order that is still out is
simply published again, unless the stream is seen to have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path
from typing import cast

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from commands.lease import LeaseLost
from commands.order_post import RETRY_SECONDS, OrderPost
from commands.settings import CommandSettings
from commands.streams import ORDERS
from domain.order_of import Lookups, guest_of, image_of, order_of
from domain.orders import ImageSpec, Order
from domain.resources import Blob, Image, decode
from domain.server import LeftGuest, Server
from eventlog.log import EventLog

log_ = structlog.get_logger(__name__)
_decode = msgspec.json.Decoder(Order | list[Order]).decode
NEVER = datetime.max.replace(tzinfo=UTC)
MAX_IMAGES = 1024


def destroy_order(server: Server, id: str, host: str, generation: int) -> Order:
    """The order for a guest that is where its server is not (any more)."""
    return Order(
        id=id,
        kind="destroy",
        server_id=server.id,
        host=host,
        generation=generation,
        spec=guest_of(server, Lookups()),
        command="reap",
        step="destroy",
    )


class OrderBook:
    """Builds and publishes orders. One per conductor."""

    def __init__(self, log: EventLog, settings: CommandSettings, fence: Callable[[], Awaitable[None]]) -> None:
        self._log = log
        self._post = OrderPost(log, fence)
        self._active_images: dict[str, Image] = {}
        self._settings = settings

    def image_path(self, image_id: str) -> Path:
        return self._settings.images_dir / image_id

    async def order(self, server: Server, position: int) -> Order | None:
        return order_of(server, position, await self._lookups(server))

    def publish_at_once(self, server: Server, position: int) -> bool:
        """Put the order that this state calls for on its way; False, and nothing done, if that takes more than that."""
        operation = server.operation
        assert operation is not None
        if server.user_data_id is not None or operation.command in ("rescue", "rebuild"):
            return False
        image_id = image_of(server)
        image = self._active_images.get(image_id) if image_id is not None else None
        if image is None and image_id is not None:
            return False
        try:
            order = order_of(server, position, self._lookups_with(server, image))
        except Exception:  # `publish` tells it, and tries again
            return False
        if order is not None:
            self._post.put(order, operation.deadline)
        return True

    async def publish(self, server: Server, position: int) -> None:
        """Put the order that this state calls for on its stream; tried until its deadline when something is away."""
        operation = server.operation
        assert operation is not None
        order = await self._look_up(server, position, operation.deadline)
        if order is not None:
            await self._post.send(order, operation.deadline)

    async def stop(self) -> None:
        await self._post.stop()

    async def publish_if_missing(self, server: Server, position: int) -> None:
        """As `publish`, unless the stream has it: what a starting conductor does for every order that is out."""
        assert server.host is not None
        if not await self._is_out(server.host, server.id, server.generation):
            await self.publish(server, position)

    async def _is_out(self, host: str, server_id: str, generation: int) -> bool:
        try:
            newest = await self._log.js.get_last_msg(ORDERS, f"orders.{host}.{server_id}")
            told = _decode(newest.data or b"")
            orders = told if isinstance(told, list) else [told]
            return any(one.server_id == server_id and one.generation >= generation for one in orders)
        except (NatsError, JetStreamError) as error:
            log_.debug("no order on the stream", server_id=server_id, error=repr(error))
            return False

    async def destroy_left(self, server: Server, left: LeftGuest) -> None:
        """Have a guest destroyed that no operation waits for. The stream keeps the order until its host comes back."""
        if not await self._is_out(left.host, server.id, left.generation):
            await self.send(destroy_order(server, f"left-{left.generation}", left.host, left.generation))

    async def send(self, order: Order) -> None:
        """Put an order that no operation waits for, so that none repeats it, on its stream."""
        await self._post.send(order, NEVER)

    async def _look_up(self, server: Server, position: int, deadline: datetime) -> Order | None:
        """The boundary for what an order needs of the log: try again until the deadline."""
        for pause in chain(RETRY_SECONDS, repeat(RETRY_SECONDS[-1])):
            try:
                return await self.order(server, position)
            except LeaseLost:
                raise
            except Exception as error:
                if datetime.now(UTC) > deadline:
                    log_.error("order not published", server_id=server.id, error=repr(error))
                    return None
                log_.warning("order not published yet", server_id=server.id, error=repr(error))
                await asyncio.sleep(pause)
        raise AssertionError("the pauses never end")

    async def _lookups(self, server: Server) -> Lookups:
        operation = server.operation
        assert operation is not None
        image = await self._image(image_of(server))
        rescue = None
        if operation.command == "rescue":
            rescue_image = await self._image(operation.params["image"]["id"])
            rescue = ImageSpec(
                id=operation.params["image"]["id"],
                path=str(self.image_path(operation.params["image"]["id"])),
                disk_format=(rescue_image.disk_format if rescue_image else None) or "qcow2",
                properties=operation.params["image"].get("properties", {}),
            )
        reimage = None
        if operation.command == "rebuild" and server.volume_backed and operation.params.get("reimage"):
            filling = await self._image(operation.params["image"]["id"])
            reimage = ImageSpec(
                id=operation.params["image"]["id"],
                path=str(self.image_path(operation.params["image"]["id"])),
                disk_format=(filling.disk_format if filling else None) or "qcow2",
            )
        lookups = self._lookups_with(server, image)
        return replace(lookups, user_data=await self._user_data(server), rescue_image=rescue, reimage=reimage)

    def _lookups_with(self, server: Server, image: Image | None) -> Lookups:
        """What needs no look into the log but for the image."""
        operation = server.operation
        assert operation is not None
        image_id, snapshot = image_of(server), operation.params.get("image_id")
        return Lookups(
            image_path=str(self.image_path(image_id)) if image_id else "",
            image_format=(image.disk_format if image else None) or "qcow2",
            image_checksum=(image.checksum if image else None) or "",
            snapshot_path=str(self.image_path(snapshot)) if snapshot else "",
            secrets={
                key: self._settings.unseal(value)
                for key in ("password", "admin_password")
                if isinstance(value := operation.params.get(key), str)
            },
        )

    async def _image(self, image_id: str | None) -> Image | None:
        """The image as the log has it, a deleted one too: a host may still hold what it needs of it."""
        if image_id is None:
            return None
        if image_id in self._active_images:
            return self._active_images[image_id]
        kept = await self._log.last("image", image_id)
        image = cast(Image, decode("image", kept.commit.state)) if kept else None
        if image is not None and image.status == "active":  # its data never changes again
            if len(self._active_images) >= MAX_IMAGES:
                self._active_images.clear()
            self._active_images[image_id] = image
        return image

    async def _user_data(self, server: Server) -> str | None:
        if server.user_data_id is None:
            return None
        kept = await self._log.last("blob", server.user_data_id)
        return cast(Blob, decode("blob", kept.commit.state)).text if kept else None
