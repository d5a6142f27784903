"""Servers to measure on: created as fast as the control plane can, and waited for."""

from __future__ import annotations

import json

from cli.bench.http_client import Connection
from cli.bench.load import Cost, work_all
from cli.bench.target import Target, checked
from cli.bench.watcher import Watcher

CREATORS = 16


async def create(target: Target, watcher: Watcher, count: int, clients: int = CREATORS) -> list[str]:
    """The ids of `count` new servers, all ACTIVE."""
    return (await create_measured(target, watcher, count, clients))[0]


async def create_measured(
    target: Target, watcher: Watcher, count: int, clients: int
) -> tuple[list[str], list[float], Cost]:
    """The same, with the latency of every acceptance, and the cost, whose latencies are those until ACTIVE."""
    ids: list[str] = []
    accepted: list[float] = []

    async def work(connection: Connection, name: str) -> float:
        began = watcher.now()
        answer = checked(await connection.request(target.new_server(name)), 202)
        accepted.append(answer.seconds)
        server_id = json.loads(answer.body)["server"]["id"]
        ids.append(server_id)
        return await watcher.ended(watcher.expect_created(server_id)) - began

    cost = await work_all(target, clients, [f"bench-{number}" for number in range(count)], work)
    return ids, accepted, cost


async def delete_measured(target: Target, watcher: Watcher, ids: list[str], clients: int) -> tuple[list[float], Cost]:
    """Delete servers; latencies are those until they are gone."""
    accepted: list[float] = []

    async def work(connection: Connection, server_id: str) -> float:
        began, ended = watcher.now(), watcher.expect(server_id)
        raw = target.request("DELETE", f"/compute/v2.1/servers/{server_id}")
        accepted.append(checked(await connection.request(raw), 204).seconds)
        return await watcher.ended(ended) - began

    return accepted, await work_all(target, clients, ids, work)


async def act_measured(
    target: Target, watcher: Watcher, ids: list[str], clients: int, action: str, argument: object = None
) -> tuple[list[float], Cost]:
    """One action on each server, each waited for before its client goes on; latencies are those until done."""
    accepted: list[float] = []
    requests = {server_id: target.action(server_id, action, argument) for server_id in ids}

    async def work(connection: Connection, server_id: str) -> float:
        began, ended = watcher.now(), watcher.expect(server_id)
        accepted.append(checked(await connection.request(requests[server_id]), 202).seconds)
        return await watcher.ended(ended) - began

    return accepted, await work_all(target, clients, ids, work)
