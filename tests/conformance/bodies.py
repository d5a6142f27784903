"""Replaying the recorded bodies: the main resources at several microversions, compared field by field.

The recording's world is made again: a server `sample` with network, key, group, tags and a life behind it, a minimal
one, two made at once, one that found no host. Then every recorded request is sent; status, error sentence and the keys
of the answer have to be the same.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.conformance.deployment import FLAVORS, Deployment
from tests.conformance.findings import Finding, faults, shape
from tests.conformance.recording import bodies

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMdDfumvTJleEpgohqYY5dq5xicytjjNcPMO3x54cKzp me@here"
SETTLE_SECONDS = 60.0
# Requests that are part of making the world, or of ending it; the others are sent in between, in any order.
MADE_FIRST = ("server_create@2.96", "server_detail_building@2.96", "server_create_minimal@2.37")
LIFE: tuple[dict[str, Any], ...] = (
    {"os-stop": None},
    {"os-start": None},
    {"pause": None},
    {"unpause": None},
    {"reboot": {"type": "SOFT"}},
    {"lock": None},
    {"unlock": None},
    {"resize": {"flavorRef": "2"}},
    {"revertResize": None},
    {"resize": {"flavorRef": "2"}},
    {"confirmResize": None},
)
MADE_LAST = (
    "remote_console@2.96",
    "server_update@2.96",
    "server_update@2.1",
    "server_create_quota_exceeded@2.96",
    "action_rebuild@2.96",
    "action_rebuild@2.1",
)
DELETED_TWICE = ("server_delete@2.96", "server_delete_again@2.96")  # the second before the first has ended
GONE = "server_get_deleted@2.96"


class BodiesReplay:
    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.recorded = bodies()
        self.findings: list[Finding] = []
        self.tried: list[str] = []
        # What the recording calls something, and what it is called here.
        self._ids: dict[str, str] = {}

    async def run(self) -> list[Finding]:
        await self._make_world()
        for name in self.recorded:
            if name not in (*MADE_FIRST, *MADE_LAST, *DELETED_TWICE, GONE):
                await self._try(name)
        await self._end_world()
        return self.findings

    # --- the world -----------------------------------------------------------------------------------------------

    async def _make_world(self) -> None:
        ids, created = self.deployment.ids, self.recorded["server_create@2.96"]
        wanted = created["request"]["body"]
        self._ids[wanted["server"]["imageRef"]] = ids["image"]
        self._ids[wanted["server"]["networks"][0]["uuid"]] = ids["network"]
        self._ids[self.recorded["server@2.1"]["body"]["server"]["tenant_id"]] = ids["project demo"]
        await self._post("demo", "/os-keypairs", {"keypair": {"name": "kp", "public_key": KEY, "type": "ssh"}})
        rules = {"max_server_per_host": 3}
        group = {"server_group": {"name": "sg2", "policy": "anti-affinity", "rules": rules}}
        made = await self._post("demo", "/os-server-groups", group)
        self._ids[wanted["os:scheduler_hints"]["group"]] = made.json()["server_group"]["id"]
        async with self.deployment.frozen():
            sample = (await self._try("server_create@2.96")).json()["server"]["id"]
            self._know("server_create@2.96", sample)
            await self._try("server_detail_building@2.96")
        minimal = (await self._try("server_create_minimal@2.37")).json()["server"]["id"]
        self._know("server_create_minimal@2.37", minimal)
        base = {"imageRef": ids["image"], "networks": "none"}
        several = base | {"name": "multi", "flavorRef": "1", "min_count": 2}
        await self._post("demo", "/servers", {"server": several})
        failing = base | {"name": "sample-err", "flavorRef": FLAVORS["huge"][0]}
        failed = (await self._post("demo", "/servers", {"server": failing})).json()["server"]["id"]
        self._ids[self.recorded["server_error@2.1"]["body"]["server"]["id"]] = failed
        for server_id in (sample, minimal, failed):
            await self._settle(server_id)
        for body in LIFE:
            await self._post("admin", f"/servers/{sample}/action", body)
            await self._settle(sample)
        await self._know_actions(sample)
        await self._know_hypervisor()

    def _know(self, name: str, server_id: str) -> None:
        self._ids[self.recorded[name]["body"]["server"]["id"]] = server_id

    async def _know_actions(self, sample: str) -> None:
        answer = await self._send("admin", "GET", f"/servers/{sample}/os-instance-actions", None, "2.96")
        by_name = {one["action"]: one["request_id"] for one in answer.json()["instanceActions"]}
        for name in ("create", "resize"):
            recorded = self.recorded[f"instance_action_{name}@2.1"]["body"]["instanceAction"]["request_id"]
            self._ids[recorded] = by_name[name]

    async def _know_hypervisor(self) -> None:
        answer = await self._send("admin", "GET", "/os-hypervisors", None, "2.53")
        self._ids[self.recorded["hypervisor@2.53"]["body"]["hypervisor"]["id"]] = answer.json()["hypervisors"][0]["id"]

    async def _end_world(self) -> None:
        minimal = self._ids[self.recorded["server_create_minimal@2.37"]["body"]["server"]["id"]]
        project = self.deployment.ids["project demo"]
        for name in MADE_LAST:
            limits = {"instances": 1, "force": True}
            exceeding = name == "server_create_quota_exceeded@2.96"
            if exceeding:
                await self._send("admin", "PUT", f"/os-quota-sets/{project}", {"quota_set": limits}, "2.96")
            await self._try(name)
            if exceeding:
                await self._send("admin", "DELETE", f"/os-quota-sets/{project}", None, "2.96")
            await self._settle(minimal)
        async with self.deployment.frozen():
            for name in DELETED_TWICE:
                await self._try(name)
        await self._settle(minimal)
        await self._try(GONE)

    # --- requests ------------------------------------------------------------------------------------------------

    async def _try(self, name: str) -> httpx.Response:
        """Send a recorded request and compare its answer with the recorded one."""
        recorded = self.recorded[name]
        request = recorded["request"]
        path = self._translated(request["path"])
        answer = await self._send(
            request["actor"], request["method"], path, self._translated(request["body"]), request["microversion"]
        )
        self.tried.append(name)
        body = answer.json() if answer.content else None
        if answer.status_code != recorded["status"]:
            self._add(name, "code", recorded["status"], answer.status_code)
        elif answer.status_code >= 400:
            for finding in faults(self._translated(recorded["body"]), body, {}):
                self._add(name, *finding)
        else:
            for expected, actual in shape(recorded["body"], body):
                self._add(name, "body", expected, actual)
        return answer

    def _add(self, name: str, what: str, expected: Any, actual: Any) -> None:
        self.findings.append(Finding(f"body/{name}", "bodies.json", "", name.partition("@")[0], what, expected, actual))

    def _translated(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._translated(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._translated(one) for one in value]
        if isinstance(value, str):
            for theirs, ours in self._ids.items():
                value = value.replace(theirs, ours)
        return value

    async def _post(self, actor: str, path: str, body: dict[str, Any]) -> httpx.Response:
        answer = await self._send(actor, "POST", path, body, "2.96")
        assert answer.status_code < 300, f"{path} answered {answer.status_code} {answer.text}"
        return answer

    async def _send(self, actor: str | None, method: str, path: str, body: Any, version: str | None) -> httpx.Response:
        headers = {} if version is None else {"OpenStack-API-Version": f"compute {version}"}
        under = path if path.startswith(("/v2.1", "/?")) or path == "/" else f"/v2.1{path}"
        if actor is None:
            async with httpx.AsyncClient(base_url=self.deployment.base_url, timeout=SETTLE_SECONDS) as anybody:
                return await anybody.request(method, f"/compute{under}", headers=headers)
        client = self.deployment.clients[actor]
        return await client.request(method, f"/compute{under}", headers=headers, json=body)

    async def _settle(self, server_id: str) -> None:
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                server = await self.deployment.system.read.server(server_id)
                if server is None or server.operation is None:
                    return
                await asyncio.sleep(0.02)
