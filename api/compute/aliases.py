"""/os-volumes_boot: the servers under the name that boots from volumes once had. Nova keeps it up to 2.102."""

from __future__ import annotations

from dataclasses import replace

from api.compute import actions, servers, servers_create, servers_list

ROUTES = [
    replace(route, path=route.path.replace("/servers", "/os-volumes_boot", 1))
    for module in (actions, servers, servers_create, servers_list)
    for route in module.ROUTES
]
