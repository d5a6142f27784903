"""Orders: derived from a server's state, put on the stream that its host takes them from.

Publishing one twice is harmless (the stream keeps the newest per server, the agent knows the generation), so after a
restart every order that is still out is simply published again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import msgspec
import structlog
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from commands.lookup import Lookup
from commands.settings import CommandSettings
from commands.streams import ORDERS
from domain.order_of import Lookups, order_of
from domain.orders import ImageSpec, Order
from domain.resources import Blob, Image, decode
from domain.server import Server
from eventlog.log import EventLog, LogUnavailable

log_ = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Order).decode
RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)


class OrderBook:
    """Builds and publishes orders. One per conductor."""

    def __init__(self, log: EventLog, read: Lookup, settings: CommandSettings) -> None:
        self._log = log
        self._read = read
        self._settings = settings

    def image_path(self, image_id: str) -> Path:
        return self._settings.images_dir / image_id

    async def order(self, server: Server, position: int) -> Order | None:
        return order_of(server, position, await self._lookups(server))

    async def publish(self, server: Server, position: int) -> None:
        """Put the order that this state calls for on its stream; retried for a while when NATS is away."""
        order = await self.order(server, position)
        if order is not None:
            await self.send(order)

    async def publish_if_missing(self, server: Server, position: int) -> None:
        """As `publish`, unless the stream has it: what a starting conductor does for every order that is out."""
        try:
            newest = await self._log.js.get_last_msg(ORDERS, f"orders.{server.host}.{server.id}")
            if _decode(newest.data or b"").generation >= server.generation:
                return
        except (NatsError, JetStreamError) as error:
            log_.debug("no order on the stream", server_id=server.id, error=repr(error))
        await self.publish(server, position)

    async def send(self, order: Order) -> None:
        for pause in (*RETRY_SECONDS, None):
            try:
                await self._log.js.publish(f"orders.{order.host}.{order.server_id}", _encode(order), timeout=5)
                return
            except (NatsError, JetStreamError) as error:
                if pause is None:
                    log_.error("order not published", server_id=order.server_id, kind=order.kind, error=repr(error))
                    return
                await asyncio.sleep(pause)

    async def _lookups(self, server: Server) -> Lookups:
        operation = server.operation
        assert operation is not None
        image_id = server.shelved_image_id if server.vm_state == "shelved_offloaded" else server.image_id
        image = await self._image(image_id)
        rescue = None
        if operation.command == "rescue":
            rescue_image = await self._image(operation.params["image"]["id"])
            rescue = ImageSpec(
                id=operation.params["image"]["id"],
                path=str(self.image_path(operation.params["image"]["id"])),
                disk_format=(rescue_image.disk_format if rescue_image else None) or "qcow2",
                properties=operation.params["image"].get("properties", {}),
            )
        secrets = {
            key: self._settings.unseal(value)
            for key in ("password", "admin_password")
            if isinstance(value := operation.params.get(key), str)
        }
        snapshot = operation.params.get("image_id")
        return Lookups(
            image_path=str(self.image_path(image_id)) if image_id else "",
            image_format=(image.disk_format if image else None) or "qcow2",
            image_checksum=(image.checksum if image else None) or "",
            snapshot_path=str(self.image_path(snapshot)) if snapshot else "",
            user_data=await self._user_data(server),
            rescue_image=rescue,
            secrets=secrets,
        )

    async def _image(self, image_id: str | None) -> Image | None:
        return cast(Image | None, await self._read.resource("image", image_id)) if image_id else None

    async def _user_data(self, server: Server) -> str | None:
        if server.user_data_id is None:
            return None
        try:
            kept = await self._log.last("blob", server.user_data_id)
        except LogUnavailable:
            return None
        return cast(Blob, decode("blob", kept.commit.state)).text if kept else None
