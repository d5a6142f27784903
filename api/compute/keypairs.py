"""/os-keypairs: a user's SSH keys. Until 2.91 the API makes one for who sends none and shows the private key once."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlencode

from api.compute.call import Call, Reply, empty, reply
from api.compute.dispatch import Route
from api.compute.keys import generate, keypair_id, ssh_fingerprint, x509_fingerprint
from api.compute.lookups import integer
from api.compute.quota import limits_of
from api.compute.schemas import keypairs as schemas
from api.compute.times import micros
from domain.errors import Conflict, Forbidden, Invalid, NotFound
from domain.resources import Keypair


def _owner(call: Call, asked: str | None, what: str) -> str:
    """Whose keys: the caller's, or from 2.10 on those of the user that an administrator names."""
    mine = call.caller.actor.user_id
    if asked is None or call.version < 10 or asked == mine:
        return mine
    if not call.is_admin:
        raise Forbidden(f"Policy doesn't allow os_compute_api:os-keypairs:{what} to be performed.", reason="policy")
    return asked


def _brief(call: Call, keypair: Keypair) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": keypair.name,
        "public_key": keypair.public_key,
        "fingerprint": keypair.fingerprint,
    }
    if call.version >= 2:
        body["type"] = keypair.key_type
    return body


async def index(call: Call) -> Reply:
    schemas.LIST.check(call.version, call.query)
    owner = _owner(call, call.argument("user_id"), "index")
    found = await call.services.read.resources("keypair", where={"user_id": owner})
    pairs = sorted((cast("Keypair", one) for one in found), key=lambda one: one.name)
    more: dict[str, Any] = {}
    if call.version >= 35:
        pairs, more = _page(call, pairs)
    return reply({"keypairs": [{"keypair": _brief(call, one)} for one in pairs]} | more)


def _page(call: Call, pairs: list[Keypair]) -> tuple[list[Keypair], dict[str, Any]]:
    marker = call.argument("marker")
    if marker is not None:
        if all(one.name != marker for one in pairs):
            raise Invalid(f"marker [{marker}] not found")
        pairs = [one for one in pairs if one.name > marker]
    most = call.services.settings.page_limit
    limit = min(integer(call, "limit") or most, most)
    if len(pairs) <= limit:
        return pairs, {}
    page = pairs[:limit]
    rest = [(name, value) for name, values in call.query.items() if name != "marker" for value in values]
    query = urlencode([*rest, ("marker", page[-1].name)])
    href = f"{call.root}/v2.1{call.project_path}/os-keypairs?{query}"
    return page, {"keypairs_links": [{"rel": "next", "href": href}]}


async def _find(call: Call, what: str) -> Keypair:
    name = call.params[0]
    owner = _owner(call, call.argument("user_id"), what)
    found = await call.services.read.resource("keypair", keypair_id(owner, name))
    if found is None or found.deleted:
        raise NotFound(f"Keypair {name} not found for user {owner}")
    return cast("Keypair", found)


async def show(call: Call) -> Reply:
    schemas.SHOW.check(call.version, call.query)
    keypair = await _find(call, "show")
    body = _brief(call, keypair) | {
        "id": int(keypair.id.replace("-", "")[:7], 16),
        "user_id": keypair.user_id,
        "created_at": micros(keypair.created_at),
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }
    return reply({"keypair": body})


async def create(call: Call) -> Reply:
    body = await call.object()
    schemas.CREATE.check(call.version, body)
    wanted: dict[str, Any] = body["keypair"]
    owner = _owner(call, wanted.get("user_id"), "create")
    kind = wanted.get("type", "ssh") if call.version >= 2 else "ssh"
    await _must_fit(call, owner)
    private = None
    public = wanted.get("public_key")
    if public is None:
        if kind != "ssh":
            raise Invalid("Keypairs of type x509 cannot be made here.", hint="Send the certificate as public_key.")
        private, public = generate()
    public = public.strip()
    fingerprint = ssh_fingerprint(public) if kind == "ssh" else x509_fingerprint(public)
    fields = {
        "name": wanted["name"],
        "user_id": owner,
        "public_key": public,
        "fingerprint": fingerprint,
        "key_type": kind,
    }
    id_ = keypair_id(owner, wanted["name"])
    try:
        keypair = cast("Keypair", await call.services.commands.create("keypair", fields, call.context, id=id_))
    except Conflict as error:
        raise Conflict(f"Key pair '{wanted['name']}' already exists.") from error
    shown = _brief(call, keypair) | {"user_id": owner}
    if private is not None:
        shown["private_key"] = private
    return reply({"keypair": shown}, 200 if call.version < 2 else 201)


async def _must_fit(call: Call, owner: str) -> None:
    most = (await limits_of(call, call.project_id))["key_pairs"]
    if 0 <= most <= len(await call.services.read.resources("keypair", where={"user_id": owner})):
        raise Forbidden("Quota exceeded, too many key pairs.", reason="quota")


async def delete(call: Call) -> Reply:
    schemas.SHOW.check(call.version, call.query)
    keypair = await _find(call, "delete")
    await call.services.commands.delete("keypair", keypair.id, call.context)
    return empty(202 if call.version < 2 else 204)


ROUTES = [
    Route("GET", "/os-keypairs", index),
    Route("POST", "/os-keypairs", create),
    Route("GET", "/os-keypairs/{}", show),
    Route("DELETE", "/os-keypairs/{}", delete),
]
