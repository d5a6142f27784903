"""Who sees and changes what of the network API, and the refusals in Neutron's type names.

A project sees its own resources and shared or external networks; admins see everything. What a caller does not see does
not exist for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.requests import Request

from api.auth import Caller
from api.errors import NeutronError
from api.http import caller, json_object, services, timestamp
from api.listing import living
from api.network.attributes import must_be_known
from domain.errors import Invalid
from domain.resources import Network, Port, Resource, SecurityGroup, Subnet

NAMES = {"network": "Network", "subnet": "Subnet", "port": "Port", "security_group": "SecurityGroup"}
MOST_AT_ONCE = 100


def not_found(kind: str, id_: str) -> NeutronError:
    name = NAMES[kind]
    if kind == "security_group":
        return NeutronError("SecurityGroupNotFound", 404, f"Security group {id_} does not exist")
    return NeutronError(f"{name}NotFound", 404, f"{name} {id_} could not be found.")


def refused(action: str) -> NeutronError:
    return NeutronError("PolicyNotAuthorized", 403, f"({action}) is disallowed by policy", hint="Ask an admin")


def owns(who: Caller, resource: Resource) -> bool:
    return who.is_admin or (who.project_id is not None and resource.project_id == who.project_id)


def sees_network(who: Caller, network: Network) -> bool:
    return owns(who, network) or network.shared or network.external


async def visible(request: Request, kind: str) -> list[Resource]:
    """Every resource of a kind that the caller sees."""
    who = caller(request)
    wanted = request.query_params.getlist("id")
    narrow: dict[str, Any] = {"ids": wanted} if wanted else {}
    if kind == "port":
        where = {key: request.query_params.getlist(key) for key in ("device_id", "network_id", "status")}
        narrow["where"] = {key: value for key, value in where.items() if value and all(value)}
        narrow |= {"name": request.query_params["name"]} if request.query_params.get("name") else {}
        narrow |= {} if who.is_admin else {"project_id": who.project_id or "-"}
    elif kind == "security_group" and not who.is_admin:
        narrow["project_id"] = who.project_id or "-"
    found = await living(request, kind, **narrow)
    if kind == "network":
        return [one for one in found if sees_network(who, cast(Network, one))]
    if kind == "subnet":
        networks = {one.id: cast(Network, one) for one in await living(request, "network")}
        return [
            one
            for one in found
            if owns(who, one)
            or ((network := networks.get(cast(Subnet, one).network_id)) is not None and sees_network(who, network))
        ]
    return found


async def find(request: Request, kind: str, id_: str | None = None) -> Any:
    """A resource that the caller sees, by the path's id unless another is given."""
    id_ = request.path_params["id"] if id_ is None else id_
    who = caller(request)
    found = await services(request).read.resource(kind, id_)
    if found is None or found.deleted:
        raise not_found(kind, id_)
    if isinstance(found, Network):
        seen = sees_network(who, found)
    elif isinstance(found, Subnet):
        network = await services(request).read.resource("network", found.network_id)
        seen = owns(who, found) or (isinstance(network, Network) and sees_network(who, network))
    else:
        seen = owns(who, found)
    if not seen:
        raise not_found(kind, id_)
    return found


async def find_own(request: Request, kind: str, id_: str | None = None) -> Any:
    """A resource that the caller may change."""
    found = await find(request, kind, id_)
    must_be_member(request, f"update_{kind}")
    if not owns(caller(request), found):
        raise refused(f"rule:update_{kind}")
    return found


def must_be_member(request: Request, action: str) -> Caller:
    who = caller(request)
    if who.is_admin or ("member" in who.roles and who.project_id is not None):
        return who
    raise refused(f"rule:{action}")


def project_of(body: dict[str, Any], who: Caller) -> str | None:
    """The project that a new resource belongs to: the caller's, or any that an admin names."""
    asked = body.get("project_id") or body.get("tenant_id")
    if asked in (None, who.project_id):
        return who.project_id
    if not who.is_admin or not isinstance(asked, str):
        raise refused("rule:create for another project")
    return asked


def common(resource: Network | Subnet | Port | SecurityGroup) -> dict[str, Any]:
    """The attributes that every resource of this API has."""
    return {
        "id": resource.id,
        "name": resource.name,
        "project_id": resource.project_id or "",
        "tenant_id": resource.project_id or "",
        "description": resource.description,
        "tags": list(resource.tags),
        "created_at": timestamp(resource.created_at),
        "updated_at": timestamp(resource.updated_at),
        "revision_number": resource.version,
    }


async def create_all(
    request: Request, kind: str, collection: str, make: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
) -> tuple[dict[str, Any], int]:
    """Create one (`{"port": {...}}`) or several (`{"ports": [...]}`); the answer has the same form.

    Several are not one transaction here: the first that is refused ends it, and those before it stay.
    """
    body = await json_object(request)
    one, several = body.get(kind), body.get(collection)
    if isinstance(one, dict):
        must_be_known(kind, [one])
        return {kind: await make(one)}, 201
    if isinstance(several, list) and several and all(isinstance(each, dict) for each in several):
        if len(several) > MOST_AT_ONCE:
            raise Invalid(f"At most {MOST_AT_ONCE} {collection} can be created at once")
        must_be_known(kind, several)
        return {collection: [await make(each) for each in several]}, 201
    raise NeutronError("HTTPBadRequest", 400, f"Unable to find '{kind}' in request body")
