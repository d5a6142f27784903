"""The compute API v2.1, microversions 2.1 to 2.96.

Each module serves one resource and lists its `ROUTES`; `dispatch` finds the handler. Bodies and queries are checked
against the tables of `schemas`; `servers_view` says how a server looks; what changes goes through `commands`, what is
read comes from the read model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute, Mount

from api.compute import (
    actions,
    aggregates,
    aliases,
    assisted_snapshots,
    availability_zones,
    consoles,
    extensions,
    external_events,
    flavor_specs,
    flavors,
    gone,
    hosts,
    hypervisors,
    images,
    instance_actions,
    interfaces,
    keypairs,
    limits,
    migrations,
    quota_sets,
    server_groups,
    server_metadata,
    server_parts,
    server_tags,
    servers,
    servers_create,
    servers_list,
    services_known,
    usage,
    usage_audit,
    version_documents,
    volume_attachments,
)
from api.compute.description import describe
from api.compute.dispatch import ComputeApi, Route

if TYPE_CHECKING:
    from api.services import Services

MODULES = (
    actions,
    aggregates,
    aliases,
    assisted_snapshots,
    availability_zones,
    consoles,
    extensions,
    external_events,
    flavor_specs,
    flavors,
    gone,
    hosts,
    hypervisors,
    images,
    instance_actions,
    interfaces,
    keypairs,
    limits,
    migrations,
    quota_sets,
    server_groups,
    server_metadata,
    server_parts,
    server_tags,
    servers,
    servers_create,
    servers_list,
    services_known,
    usage,
    usage_audit,
    version_documents,
    volume_attachments,
)


def routes(services: Services) -> list[BaseRoute]:
    """Mounted at /compute."""
    return [Mount("", app=application(services))]


def application(services: Services) -> ComputeApi:
    """The same as an application of its own, which answers everything below /compute."""
    return ComputeApi(services, _all_routes())


def described() -> dict[str, dict[str, Any]]:
    """Every path of this API, as OpenAPI describes paths."""
    return describe(_all_routes())


def _all_routes() -> Iterator[Route]:
    return (route for module in MODULES for route in module.ROUTES)
