"""Deciding the birth of a server: what a creator asked for, with every reference resolved, becomes the first commit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import msgspec

from domain.decide.context import Context, Decision
from domain.decide.running import go_on
from domain.image_properties import must_be_served
from domain.machine import MACHINE
from domain.server import BlockDevice, FlavorSnapshot, NetworkRequest, Operation, Server, ServerEvent
from domain.workflows import WORKFLOWS


class NewServer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server to create. Names and ids were looked up by the API: this holds what they stood for at that moment.

    `networks`: null = whatever single network there is ("auto"), empty = none. `user_data_id` names a blob.
    """

    id: str
    name: str
    project_id: str
    user_id: str
    flavor: FlavorSnapshot
    hostname: str
    instance_name: str
    reservation_id: str
    image_id: str | None = None
    image_properties: dict[str, str] = {}
    description: str | None = None
    key_name: str | None = None
    public_key: str | None = None
    user_data_id: str | None = None
    user_data: str | None = None  # base64; kept as a blob by the handler, which sets user_data_id
    metadata: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    block_devices: tuple[BlockDevice, ...] = ()
    root_tag: str | None = None
    networks: tuple[NetworkRequest, ...] | None = None
    security_groups: tuple[str, ...] = ("default",)
    availability_zone: str | None = None
    forced_host: str | None = None
    scheduler_hints: dict[str, Any] = {}
    server_group: str | None = None
    admin_password: str | None = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    disk_config: str = "MANUAL"
    launch_index: int = 0


def create(new: NewServer, context: Context) -> list[ServerEvent]:
    """The first events of a server: accepted, and its first step started."""
    decision = Decision(Server(id=new.id), context.now)
    rule = MACHINE.rule("create")
    must_be_served(new.image_properties)
    seconds = context.deadline_seconds or rule.deadline_seconds
    params: dict[str, Any] = {}
    if new.admin_password is not None:
        params["admin_password"] = new.admin_password
    operation = Operation(
        request_id=context.request_id,
        command="create",
        started_at=context.now,
        deadline=context.now + timedelta(seconds=seconds),
        user_id=context.user_id,
        project_id=context.project_id,
        params=params,
        vm_state_before="building",
    )
    decision.add(
        "create",
        "accepted",
        context.request_id,
        {
            "name": new.name,
            "description": new.description,
            "project_id": new.project_id,
            "user_id": new.user_id,
            "vm_state": "building",
            "task_state": "scheduling",
            "power_state": "nostate",
            "created_at": context.now,
            "flavor": new.flavor,
            "image_id": new.image_id,
            "image_properties": new.image_properties,
            "key_name": new.key_name,
            "public_key": new.public_key,
            "user_data_id": new.user_data_id,
            "metadata": new.metadata,
            "tags": new.tags,
            "config_drive": True,  # the workflow makes one for every server, asked for or not
            "hostname": new.hostname,
            "access_ip_v4": new.access_ip_v4,
            "access_ip_v6": new.access_ip_v6,
            "disk_config": new.disk_config,
            "pinned_availability_zone": new.availability_zone,
            "forced_host": new.forced_host,
            "instance_name": new.instance_name,
            "reservation_id": new.reservation_id,
            "launch_index": new.launch_index,
            "networks_requested": new.networks,
            "block_devices": _named(new),
            "root_tag": new.root_tag,
            "security_groups": new.security_groups,
            "server_group": new.server_group,
            "scheduler_hints": new.scheduler_hints,
            "operation": operation,
        },
    )
    go_on(decision, WORKFLOWS["create"], after=None)
    return decision.events


def _named(new: NewServer) -> tuple[BlockDevice, ...]:
    """The volumes asked for, those to be made with the ids that they will have: whoever takes them back knows them."""
    return tuple(
        msgspec.structs.replace(one, volume_id=str(uuid5(NAMESPACE_OID, f"{new.id}/volume/{index}")))
        if one.made_here
        else one
        for index, one in enumerate(new.block_devices)
    )
