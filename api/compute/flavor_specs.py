"""/flavors/{id}/os-extra_specs and who may use a private flavor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from api.compute.call import Call, Reply, chosen, empty, reply
from api.compute.dispatch import Route
from api.compute.lookups import flavor_of
from api.compute.policy import enforce
from api.compute.schemas import flavors as schemas
from domain import flavors
from domain.errors import Invalid, NotFound
from domain.resources import Flavor

_RULE = "os_compute_api:os-flavor-extra-specs:"


async def index(call: Call) -> Reply:
    enforce(call, _RULE + "index")
    return reply({"extra_specs": (await flavor_of(call, call.params[0])).extra_specs})


async def show(call: Call) -> Reply:
    enforce(call, _RULE + "show")
    flavor_id, key = call.params
    flavor = await flavor_of(call, flavor_id)
    specs = flavor.extra_specs
    if key not in specs:
        raise flavors.no_spec(flavor, key)
    return reply({key: specs[key]})


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.SPECS.check(call.version, body)
    enforce(call, _RULE + "create")
    specs = _texts(body["extra_specs"])
    flavor = await _merge(call, specs)
    return reply({"extra_specs": {key: flavor.extra_specs[key] for key in specs}})


async def update(call: Call) -> Reply:
    key = call.params[1]
    body = await call.object()
    schemas.SPEC.check(call.version, body)
    enforce(call, _RULE + "update")
    if key not in body:
        raise Invalid("Request body and URI mismatch")
    await _merge(call, _texts(body))
    return reply({key: str(body[key])})


def _texts(specs: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in specs.items()}


async def _merge(call: Call, specs: dict[str, str]) -> Flavor:
    flavor = await flavor_of(call, call.params[0])
    check = partial(flavors.set_specs, specs=specs)
    changed = await call.services.commands.update("flavor", flavor.id, {}, call.context, check=check)
    return cast("Flavor", changed)


async def delete(call: Call) -> Reply:
    enforce(call, _RULE + "delete")
    flavor_id, key = call.params
    flavor = await flavor_of(call, flavor_id)
    check = partial(flavors.unset_spec, key=key)
    await call.services.commands.update("flavor", flavor.id, {}, call.context, check=check)
    return empty(200)


async def access(call: Call) -> Reply:
    enforce(call, "os_compute_api:os-flavor-access")
    flavor = await flavor_of(call, call.params[0])
    if flavor.is_public:
        raise NotFound("Access list not available for public flavors.")
    return _access(flavor)


def _access(flavor: Flavor) -> Reply:
    return reply({"flavor_access": [{"flavor_id": flavor.flavor_id, "tenant_id": one} for one in flavor.access]})


async def act(call: Call) -> Reply:
    body = await call.object()
    return await chosen(body, _ACTIONS)(call, body)


async def _project(call: Call, tenant: str) -> str:
    found = await call.services.read.resource("project", tenant)
    if found is None or found.deleted:
        raise Invalid(f"Project ID {tenant} is not a valid project.")
    return tenant


async def _add(call: Call, body: dict[str, Any]) -> Reply:
    schemas.ADD_ACCESS.check(call.version, body)
    enforce(call, "os_compute_api:os-flavor-access:add_tenant_access")
    flavor = await flavor_of(call, call.params[0])
    if call.version >= 7:
        flavors.must_be_private(flavor)
    tenant = await _project(call, body["addTenantAccess"]["tenant"])
    check = partial(flavors.allow, project_id=tenant)
    changed = await call.services.commands.update("flavor", flavor.id, {}, call.context, verb="access", check=check)
    return _access(cast("Flavor", changed))


async def _remove(call: Call, body: dict[str, Any]) -> Reply:
    schemas.REMOVE_ACCESS.check(call.version, body)
    enforce(call, "os_compute_api:os-flavor-access:remove_tenant_access")
    flavor = await flavor_of(call, call.params[0])
    tenant = await _project(call, body["removeTenantAccess"]["tenant"])
    check = partial(flavors.disallow, project_id=tenant)
    changed = await call.services.commands.update("flavor", flavor.id, {}, call.context, verb="access", check=check)
    return _access(cast("Flavor", changed))


_ACTIONS: dict[str, Callable[[Call, dict[str, Any]], Awaitable[Reply]]] = {
    "addTenantAccess": _add,
    "removeTenantAccess": _remove,
}

ROUTES = [
    Route("GET", "/flavors/{}/os-extra_specs", index),
    Route("POST", "/flavors/{}/os-extra_specs", create),
    Route("GET", "/flavors/{}/os-extra_specs/{}", show),
    Route("PUT", "/flavors/{}/os-extra_specs/{}", update),
    Route("DELETE", "/flavors/{}/os-extra_specs/{}", delete),
    Route("GET", "/flavors/{}/os-flavor-access", access),
    Route("POST", "/flavors/{}/action", act),
]
