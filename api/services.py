"""What every handler reaches: the command side, the read model, the log, the tokens and the settings.

One `Services` per process, made by the composition root and found at `request.app.state.services`. Handlers keep no
state of their own; whatever must survive a request is in the log, in the read model or in a directory named here.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eventlog.errors import LogError

if TYPE_CHECKING:
    from api.auth import Tokens
    from commands.handler import Commands
    from domain.server import Server
    from eventlog.log import EventLog
    from projections.read_model import ReadModel

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class ApiSettings:
    """Where things are and how much is allowed. Sizes in bytes, times in seconds."""

    data_dir: Path
    region: str = "RegionOne"
    trust_forwarded: bool = False  # believe X-Forwarded-Proto/Host/Prefix: only behind a proxy that sets them
    max_body_bytes: int = 1 * MIB  # every request but image data
    max_image_bytes: int = 64 * GIB
    image_store_bytes: int = 256 * GIB  # all image files together
    page_limit: int = 1000  # most entries of one page of any list
    token_seconds: int = 12 * 3600
    token_recheck_seconds: float = 5.0  # how long another process's change of a user or role may go unnoticed
    readiness_lag: int = 1000  # commits the read model may be behind and still be ready
    access_log: bool = True
    images_path: Path | None = None
    volumes_path: Path | None = None

    @property
    def images_dir(self) -> Path:
        return self.images_path or self.data_dir / "images"

    @property
    def volumes_dir(self) -> Path:
        return self.volumes_path or self.data_dir / "volumes"


@dataclass
class Services:
    commands: Commands
    read: ReadModel
    log: EventLog
    tokens: Tokens
    settings: ApiSettings

    async def server(self, id: str) -> Server | None:
        """The server, deleted ones included: as the log has it where the read model is known to be behind."""
        found = await self.read.server(id)
        if self.read.is_behind:
            with contextlib.suppress(LogError):  # it is away as well
                found = await self.commands.load_server(id)
        return found
