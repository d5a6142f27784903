"""Replaying recorded cells: bring a server into the state, send the request, watch what comes of it, compare.

Servers are shared between cells that change nothing. What is in transition is made with the conductor stopped, so that
no acceptance goes on; what needs a dead host comes last, because the hosts do not come back.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from tests.conformance.deployment import FLAVORS, Deployment
from tests.conformance.findings import Finding, Observed, compare
from tests.conformance.recording import Cell
from tests.conformance.states import STATES, TRANSITIONS, Recipe, Request, recipe_of

SETTLE_SECONDS = 60.0
PARALLEL = 8
VERSION = "compute 2.96"


class NotReached(Exception):
    """A state could not be reached: the text says where it ended."""


@dataclass
class Outcome:
    """What a replay came to. `missing`: cells that could not be tried, with the reason."""

    tried: list[Cell] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


class Replay:
    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.outcome = Outcome()
        self._names = {
            "image": deployment.ids["image"],
            "image2": deployment.ids["image2"],
            "flavor": FLAVORS["m1.tiny"][0],
            "flavor2": FLAVORS["m1.small"][0],
            "huge": FLAVORS["huge"][0],
        }

    # --- the order of things -------------------------------------------------------------------------------------

    async def run(self, cells: Iterable[Cell]) -> Outcome:
        by_section: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_section[cell.section].append(cell)
        settled = [cell for name in ("missing", "policy", "locked", "states", "bodies") for cell in by_section[name]]
        await self._settled(settled)
        await self._each(by_section["create"], self._create)
        await self._sequences(by_section["sequences"])
        await self._frozen(by_section["frozen"])
        await self._hosts_down(by_section["hostdown"])
        return self.outcome

    async def _each(self, items: Iterable[Any], work: Any) -> None:
        """Do something with each item, a few at a time."""
        slots = asyncio.Semaphore(PARALLEL)

        async def one(item: Any) -> None:
            async with slots:
                await work(item)

        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(one(item))

    async def _settled(self, cells: list[Cell]) -> None:
        by_state: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_state[cell.state].append(cell)
        # How the deployment deletes and shelves is set for all at once, so states that differ in it take turns.
        groups: dict[tuple[bool, bool], list[str]] = defaultdict(list)
        for state in by_state:
            recipe = recipe_of(state) or Recipe()
            groups[recipe.soft_delete, recipe.keep_on_host].append(state)
        for (soft_delete, keep_on_host), names in groups.items():
            with self.deployment.set_to(soft_delete=soft_delete, keep_on_host=keep_on_host):
                await self._each(names, lambda state: self._state(state, by_state[state]))

    async def _state(self, state: str, cells: list[Cell]) -> None:
        """All cells of one state: first those that change nothing, on one server, then each other on its own."""
        if state == "NEVER_EXISTED":
            for cell in cells:
                await self._try(cell, str(uuid4()))
            return
        recipe = recipe_of(state)
        if recipe is None:
            self._give_up(cells, "nothing is known of how to reach this state")
            return
        shared = [cell for cell in cells if cell.changes_nothing]
        others = [cell for cell in cells if not cell.changes_nothing]
        try:
            if shared:
                server_id = await self._made(recipe)
                for cell in shared:
                    await self._try(cell, server_id)
            servers = [await self._made(recipe) for _ in others]
        except NotReached as error:
            self._give_up(cells, str(error))
            return
        for cell, server_id in zip(others, servers, strict=True):
            await self._try(cell, server_id)

    def _give_up(self, cells: Iterable[Cell], why: str) -> None:
        for cell in cells:
            if cell not in self.outcome.tried:
                self.outcome.missing[cell.name] = why

    async def _create(self, cell: Cell) -> None:
        body = self._filled(cell.request["body"], {})
        answer = await self._request(cell.actor, "POST", "/servers", body)
        after, actions = None, []
        if answer.status_code < 300:
            server_id = answer.json()["server"]["id"]
            after = await self._settle(server_id)
            actions = await self._actions(server_id)
        self._record(cell, answer, (None, after), actions, {})

    async def _sequences(self, cells: list[Cell]) -> None:
        by_name: dict[str, list[Cell]] = defaultdict(list)
        for cell in sorted(cells, key=lambda one: one.step or 0):
            by_name[cell.state].append(cell)

        async def sequence(name: str) -> None:
            server_id = await self._made(Recipe())
            for cell in by_name[name]:
                await self._try(cell, server_id)

        await self._each(by_name, sequence)

    async def _frozen(self, cells: list[Cell]) -> None:
        wanted: list[tuple[str, list[Cell]]] = []
        by_state: dict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_state[cell.state].append(cell)
        for state, of_state in by_state.items():
            shared = [cell for cell in of_state if cell.changes_nothing]
            wanted += [(state, shared)] if shared else []
            wanted += [(state, [cell]) for cell in of_state if not cell.changes_nothing]
        for state in by_state.keys() - TRANSITIONS.keys() - {"T_BUILD"}:
            self._give_up(by_state[state], "nothing is known of how to reach this state")
        made: dict[int, str] = {}

        async def prepare(index: int) -> None:
            state, of_state = wanted[index]
            try:
                made[index] = await self._made(TRANSITIONS[state][0])
            except NotReached as error:
                self._give_up(of_state, str(error))

        for turn in ((False, False), (True, False), (False, True)):
            of_turn = [
                index
                for index, (state, _) in enumerate(wanted)
                if state in TRANSITIONS
                and (TRANSITIONS[state][0].soft_delete, TRANSITIONS[state][0].keep_on_host) == turn
            ]
            with self.deployment.set_to(soft_delete=turn[0], keep_on_host=turn[1]):
                await self._each(of_turn, prepare)
        async with self.deployment.frozen():
            for index, (state, of_state) in enumerate(wanted):
                if state == "T_BUILD":
                    server_id = await self._born("{flavor}")
                elif index in made:
                    server_id = made[index]
                    recipe, request = TRANSITIONS[state]
                    with self.deployment.set_to(soft_delete=recipe.soft_delete, keep_on_host=False):
                        await self._send(server_id, request)
                else:
                    continue
                for cell in of_state:
                    await self._try(cell, server_id, settle=False)

    async def _hosts_down(self, cells: list[Cell]) -> None:
        servers = {cell.number: await self._made(STATES[cell.state]) for cell in cells if cell.state in STATES}
        await self.deployment.hosts_down()
        for cell in cells:
            if cell.number in servers:
                await self._try(cell, servers[cell.number])
            else:
                self._give_up([cell], "nothing is known of how to reach this state")

    # --- one cell ------------------------------------------------------------------------------------------------

    async def _try(self, cell: Cell, server_id: str, *, settle: bool = True) -> None:
        known = {one["request_id"] for one in await self._briefs(server_id)}
        before = await self._look(server_id)
        path = cell.request["path"].replace("{id}", server_id)
        body = self._filled(cell.request["body"], {"id": server_id})
        answer = await self._request(cell.actor, cell.request["method"], path, body)
        after = await (self._settle(server_id) if settle else self._look(server_id))
        actions = await self._actions(server_id, known)
        self._record(cell, answer, (before, after), actions, {"id": server_id})

    def _record(
        self,
        cell: Cell,
        answer: httpx.Response,
        states: tuple[dict[str, Any] | None, dict[str, Any] | None],
        actions: list[dict[str, Any]],
        ids: dict[str, str],
    ) -> None:
        body = answer.json() if answer.content else None
        seen = Observed(answer.status_code, body, *states, actions)
        self.outcome.tried.append(cell)
        self.outcome.findings += compare(cell, seen, self._names | ids)

    # --- servers -------------------------------------------------------------------------------------------------

    async def _made(self, recipe: Recipe) -> str:
        """A server in the recipe's state. Raises `NotReached`."""
        server_id = await self._born(recipe.flavor)
        await self._settle(server_id)
        for request in recipe.steps:
            await self._send(server_id, request)
            await self._settle(server_id)
        return server_id

    async def _born(self, flavor: str) -> str:
        wanted = {"name": "replayed", "flavorRef": flavor, "imageRef": "{image}", "networks": "none"}
        answer = await self._request("demo", "POST", "/servers", self._filled({"server": wanted}, {}))
        if answer.status_code != 202:
            raise NotReached(f"create answered {answer.status_code} {answer.text}")
        server_id: str = answer.json()["server"]["id"]
        return server_id

    async def _send(self, server_id: str, request: Request) -> None:
        actor, what = request
        if isinstance(what, str):
            answer = await self._request(actor, what, f"/servers/{server_id}")
        else:
            answer = await self._request(actor, "POST", f"/servers/{server_id}/action", self._filled(what, {}))
        if answer.status_code >= 300:
            raise NotReached(f"{what} answered {answer.status_code} {answer.text}")

    async def _settle(self, server_id: str) -> dict[str, Any] | None:
        """The server once nothing is in progress on it."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                while True:
                    server = await self.deployment.system.read.server(server_id)
                    if server is None or server.operation is None:
                        return await self._look(server_id)
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise NotReached(f"still {server}") from error

    async def _look(self, server_id: str) -> dict[str, Any]:
        """The server as an administrator sees it, in the recording's words."""
        answer = await self._request("admin", "GET", f"/servers/{server_id}")
        if answer.status_code == 404:
            return {"status": "GONE"}
        server = answer.json()["server"]
        return {
            "status": server["status"],
            "vm_state": server["OS-EXT-STS:vm_state"],
            "task_state": server["OS-EXT-STS:task_state"],
            "power_state": server["OS-EXT-STS:power_state"],
            "locked": server["locked"],
            "locked_reason": server["locked_reason"],
            "host": server["OS-EXT-SRV-ATTR:host"],
            "flavor": server["flavor"]["original_name"],
            "name": server["name"],
            "metadata": server["metadata"],
            "launched": server["OS-SRV-USG:launched_at"] is not None,
            "terminated": server["OS-SRV-USG:terminated_at"] is not None,
        }

    async def _briefs(self, server_id: str) -> list[dict[str, Any]]:
        answer = await self._request("admin", "GET", f"/servers/{server_id}/os-instance-actions")
        found: list[dict[str, Any]] = answer.json()["instanceActions"] if answer.status_code == 200 else []
        return found

    async def _actions(self, server_id: str, known: Iterable[str] = ()) -> list[dict[str, Any]]:
        """The actions that the history has gained, newest first, each with its events."""
        gained = [one for one in await self._briefs(server_id) if one["request_id"] not in set(known)]
        shown = []
        for one in gained:
            path = f"/servers/{server_id}/os-instance-actions/{one['request_id']}"
            shown.append((await self._request("admin", "GET", path)).json()["instanceAction"])
        return shown

    # --- requests ------------------------------------------------------------------------------------------------

    def _filled(self, value: Any, ids: dict[str, str]) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(one, ids) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one, ids) for one in value]
        if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
            return (self._names | ids).get(value[1:-1], value)
        return value

    async def _request(self, actor: str, method: str, path: str, body: Any = None) -> httpx.Response:
        client = self.deployment.clients[actor]
        headers = {"OpenStack-API-Version": VERSION}
        if body is None:
            return await client.request(method, f"/compute/v2.1{path}", headers=headers)
        return await client.request(method, f"/compute/v2.1{path}", headers=headers, json=body)
