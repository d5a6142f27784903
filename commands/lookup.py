"""What the command side asks of the read models. The composition root hands in the real one."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from domain.resources import Address, Port, Resource


class Lookup(Protocol):
    async def resource(self, kind: str, id: str) -> Resource | None: ...

    async def resources(
        self, kind: str, *, project_id: str | None = None, where: dict[str, Any] | None = None
    ) -> list[Resource]: ...

    async def addresses_without_port(self, until: datetime) -> list[Address]: ...

    async def ports_without_server(self, until: datetime) -> list[Port]: ...
