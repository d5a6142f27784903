"""What becomes of a flavor: kept by servers as it was, its extra specs, who may use a private one. Pure.

Each function returns the fields to change and raises `Rejected` when it may not be.
"""

from __future__ import annotations

from typing import Any

from domain.errors import Conflict, NotFound
from domain.resources import Flavor
from domain.server import FlavorSnapshot


def snapshot(flavor: Flavor) -> FlavorSnapshot:
    """The flavor as a server keeps it, whatever becomes of the flavor."""
    return FlavorSnapshot(
        id=flavor.flavor_id or flavor.id,
        name=flavor.name,
        vcpus=flavor.vcpus,
        ram=flavor.ram,
        disk=flavor.disk,
        ephemeral=flavor.ephemeral,
        swap=flavor.swap,
        rxtx_factor=flavor.rxtx_factor,
        extra_specs=flavor.extra_specs,
    )


def set_specs(flavor: Flavor, specs: dict[str, str]) -> dict[str, Any]:
    return {"extra_specs": flavor.extra_specs | specs}


def unset_spec(flavor: Flavor, key: str) -> dict[str, Any]:
    if key not in flavor.extra_specs:
        raise no_spec(flavor, key)
    return {"extra_specs": {name: value for name, value in flavor.extra_specs.items() if name != key}}


def no_spec(flavor: Flavor, key: str) -> NotFound:
    return NotFound(
        f"Flavor {flavor.flavor_id} has no extra specs with key {key}.", hint="List its os-extra_specs to see all."
    )


def must_be_private(flavor: Flavor) -> None:
    if flavor.is_public:
        raise Conflict("Can not add access to a public flavor.", hint="Every project may use it already.")


def allow(flavor: Flavor, project_id: str) -> dict[str, Any]:
    if project_id in flavor.access:
        raise Conflict(
            f"Flavor access already exists for flavor {flavor.flavor_id} and project {project_id} combination.",
            hint="The project may use it already.",
        )
    return {"access": [*flavor.access, project_id]}


def disallow(flavor: Flavor, project_id: str) -> dict[str, Any]:
    if project_id not in flavor.access:
        raise NotFound(
            f"Flavor access not found for {flavor.flavor_id} / {project_id} combination.",
            hint="List its os-flavor-access to see who has it.",
        )
    return {"access": [one for one in flavor.access if one != project_id]}
