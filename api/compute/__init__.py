"""The compute API v2.1, microversions 2.1 to 2.96.

Each module serves one resource and lists its `ROUTES`; `dispatch` finds the handler. Bodies and queries are checked
against the tables of `schemas`; `servers_view` says how a server looks; everything that changes goes through `commands`,
everything that is read comes from the read model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Mount

from api.compute import (
    actions,
    consoles,
    flavors,
    instance_actions,
    servers,
    servers_create,
    servers_list,
)
from api.compute.dispatch import ComputeApi

if TYPE_CHECKING:
    from api.services import Services

MODULES = (
    actions,
    consoles,
    flavors,
    instance_actions,
    servers,
    servers_create,
    servers_list,
)


def routes(services: Services) -> list[BaseRoute]:
    """Mounted at /compute."""
    return [Mount("", app=ComputeApi(services, (route for module in MODULES for route in module.ROUTES)))]
