"""Network v2.0: networks, subnets, ports, security groups."""

from __future__ import annotations

from starlette.routing import BaseRoute

from api.network import fixed, networks, ports, quotas, security_groups, subnets, tags
from api.services import Services


def routes(services: Services) -> list[BaseRoute]:
    return [
        *ports.routes(),
        *networks.routes(),
        *subnets.routes(),
        *security_groups.routes(),
        *tags.routes(),
        *quotas.routes(),
        *fixed.routes(),
    ]
