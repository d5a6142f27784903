"""A server that operations are tried on, on drivers without real guests; see `tests.operations`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import openstack

from tests.life import Guest, World
from tests.running import until

SETTLE_SECONDS = 90.0


class Refused(Exception):
    """The driver could not do it; the server is as it was."""


@dataclass
class Trial:
    """A server on a driver without real guests, and what its operations leave behind for later ones."""

    world: World
    guest: Guest
    image_id: str = ""
    flavor_id: str = ""
    volume_id: str = ""
    port_id: str = ""
    earlier: str = ""  # the request id of the action before

    def newest_action(self) -> dict[str, Any]:
        base = self.world.system.ready["base_url"]
        answer = self.world.cloud.session.get(f"{base}/v1/servers/{self.guest.id}/history?limit=1")
        newest: dict[str, Any] = answer.json()["actions"][0]
        return newest

    def went_wrong(self, last: dict[str, Any] | None = None) -> str | None:
        """What the history says of the operation being tried, if it failed. To be asked last: both end at once."""
        last = last or self.newest_action()
        failed = last["request_id"] != self.earlier and last["result"] == "Error"
        return f"failed: {last['text']}" if failed else None

    @classmethod
    def of(cls, world: World, name: str, **fields: Any) -> Trial:
        """A new server that became ACTIVE."""
        trial = cls(world, world.create(name, **({"networks": "none"} | fields)))
        trial.settles("ACTIVE")
        return trial

    def act(self, body: dict[str, Any], version: str = "2.96", *, admin: bool = False) -> None:
        """An action at a microversion of one's own choice."""
        compute = (self.world.admin if admin else self.world.cloud).compute
        answer = compute.post(f"/servers/{self.guest.id}/action", json=body, microversion=version)
        openstack.exceptions.raise_from_response(answer)

    def makes_volume(self, **fields: Any) -> str:
        """The id of a volume that is there to be used."""
        storage = self.world.cloud.block_storage
        volume = storage.create_volume(**({"name": "trial", "size": 1} | fields))
        storage.wait_for_status(volume, "available", failures=["error"], interval=0.1, wait=SETTLE_SECONDS)
        return str(volume.id)

    def do(self, action: str, status: str, *arguments: Any, **fields: Any) -> None:
        """An action of the SDK that has to end in `status` and be told as a success."""
        getattr(self.world.cloud.compute, action)(self.guest.id, *arguments, **fields)
        self.settles(status)

    def settles(self, status: str) -> None:
        """Wait for the status, or for an action that failed: a task_state does not show every work."""

        def ended() -> Any:
            server = self.guest.server
            there = server.status == status and not server.task_state
            last = self.newest_action()
            return self.went_wrong(last) or (status if there and last["finish_time"] else None)

        outcome = until(ended, f"the server is {status}", SETTLE_SECONDS)
        if outcome != status:
            raise Refused(outcome)
