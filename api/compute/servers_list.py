"""Lists of servers: what the query asks for becomes one `ServerQuery` of the read model, its rows become JSON.

Filters that only administrators may use are left out for everybody else, as in Nova, as are unknown ones before 2.75.
A page is at most the deployment's page limit; `servers_links` leads to the next.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from api.compute.call import Call, Reply, flag, reply
from api.compute.dispatch import Route
from api.compute.lookups import full_view, integer
from api.compute.policy import enforce, may
from api.compute.schemas import servers as schemas
from api.compute.schemas.types import words
from api.compute.servers_view import brief, detail, view_of
from api.compute.times import parse
from api.shapes import whole
from domain.errors import Forbidden, Invalid
from domain.server import Server
from domain.states import POWER_STATES, statuses_to_states
from projections.query import InvalidQuery, MarkerNotFound, ServerQuery

# What everybody may filter by; from 2.83 on also the second group. Administrators may use all.
_FOR_ALL = frozenset(words("reservation_id name display_name status image flavor ip changes-since"))
_FOR_ALL_5 = frozenset({"ip6"})
_FOR_ALL_26 = frozenset({"tags", "tags-any", "not-tags", "not-tags-any"})
_FOR_ALL_66 = frozenset({"changes-before"})
_FOR_ALL_73 = frozenset({"locked"})
_FOR_ALL_83 = frozenset(
    words(
        "availability_zone config_drive key_name created_at launched_at terminated_at power_state task_state vm_state "
        "progress user_id"
    )
)
_SORT_ONLY_ADMINS = frozenset({"host", "node"})
_NAMES = ("name", "display_name")
_REGEX = {
    "description": "description",
    "display_description": "description",
    "hostname": "hostname",
    "locked_by": "locked_by",
    "root_device_name": "root_device_name",
    "access_ip_v4": "access_ip_v4",
    "access_ip_v6": "access_ip_v6",
    "host": "host",
    "node": "host",
}
_EXACT = {
    "user_id": "user_id",
    "reservation_id": "reservation_id",
    "image": "image_id",
    "image_ref": "image_id",
    "flavor": "flavor_id",
    "key_name": "key_name",
    "availability_zone": "availability_zone",
}
_NUMBERS = ("launch_index", "progress")
_TIMES = {
    "changes-since": "changes_since",
    "changes-before": "changes_before",
    "created_at": "created_at",
    "launched_at": "launched_at",
    "terminated_at": "terminated_at",
}
_TAGS = {"tags": "tags", "tags-any": "tags_any", "not-tags": "not_tags", "not-tags-any": "not_tags_any"}
_POWER_NAMES = {number: name for name, number in POWER_STATES.items()}
_SORT_COLUMNS = frozenset(schemas.SORT_KEYS) - {"kernel_id", "ramdisk_id"}


async def index(call: Call) -> Reply:
    servers, query = await _find(call, "index")
    view = view_of(call)
    return _answer(call, servers, [brief(view, server) for server in servers], query, "servers")


async def detailed(call: Call) -> Reply:
    servers, query = await _find(call, "detail")
    view = await full_view(call, servers)
    return _answer(call, servers, [detail(view, server) for server in servers], query, "servers/detail")


async def _find(call: Call, what: str) -> tuple[list[Server], ServerQuery]:
    enforce(call, f"os_compute_api:servers:{what}")
    schemas.LIST.check(call.version, call.query)
    query = _query(call, what)
    if query is None:
        return [], ServerQuery()
    try:
        return await call.services.read.servers(query), query
    except MarkerNotFound as error:
        raise Invalid(f"marker [{query.marker}] not found", hint="Begin again without a marker.") from error
    except InvalidQuery as error:
        schemas.NAMES.check(call.version, call.query)  # Nova's own sentence for it
        raise Invalid(str(error)) from error


def _query(call: Call, what: str) -> ServerQuery | None:
    """What the read model is asked; None when nothing can be in the list."""
    given = _allowed_filters(call)
    wanted: dict[str, Any] = {"regex": {}}
    wanted["project_id"] = _project(call, given, what)
    for name, ours in _EXACT.items():
        if name in given:
            wanted[ours] = given[name]
    for name in _NAMES:
        if name in given:
            wanted["name_regex"] = given[name]
    for name, ours in _REGEX.items():
        if name in given:
            wanted["regex"][ours] = given[name]
    for name in _NUMBERS:
        if name in given:
            if (number := whole(given[name])) is None:
                return None
            wanted[name] = number
    for name, ours in _TIMES.items():
        if name in given:
            wanted[ours] = parse(given[name], name)
    for name, ours in _TAGS.items():
        if name in given:
            wanted[ours] = tuple(tag for tag in given[name].split(",") if tag)
    for name in ("ip", "ip6"):
        if name in given:
            wanted[name] = given[name]
    if "uuid" in given:
        wanted["ids"] = tuple(call.query["uuid"])
    if "locked" in given:
        wanted["locked"] = _boolean(given["locked"], "locked")
    if "config_drive" in given:
        wanted["config_drive"] = flag(given["config_drive"])
    if (
        wanted.get("changes_since")
        and wanted.get("changes_before")
        and wanted["changes_since"] > wanted["changes_before"]
    ):
        raise Invalid("The value of changes-since must be less than or equal to changes-before.")
    if not _states(call, given, wanted):
        return None
    gone = _gone(call, given)
    if gone is False and _waiting_asked_for(wanted):
        wanted["deleted"] = False
    else:
        wanted |= {"deleted": None, "gone": gone}
    wanted["sort"] = _sort(call)
    limit = call.services.settings.page_limit
    asked = integer(call, "limit", limit)
    wanted["limit"] = min(asked or limit, limit)
    wanted["marker"] = call.argument("marker")
    return ServerQuery(**wanted)


def _allowed_filters(call: Call) -> dict[str, str]:
    """The filters that this caller may use at this version, with their last values."""
    given = {name: values[-1] for name, values in call.query.items() if values}
    if may(call, "os_compute_api:servers:allow_all_filters"):
        return given
    usable = set(_FOR_ALL)
    for since, names in (
        (5, _FOR_ALL_5),
        (26, _FOR_ALL_26),
        (66, _FOR_ALL_66),
        (73, _FOR_ALL_73),
        (83, _FOR_ALL_83),
    ):
        if call.version >= since:
            usable |= names
    return {name: value for name, value in given.items() if name in usable}


def _project(call: Call, given: dict[str, str], what: str) -> str | None:
    """The project whose servers are shown; null means all. Others than the caller's own are for administrators."""
    everybody = call.argument("all_tenants")
    if everybody is not None and everybody != "" and not _is_flag(everybody):
        raise Invalid(f"Invalid value '{everybody}' for all_tenants")
    if everybody is not None and (everybody == "" or flag(everybody)):
        enforce(call, f"os_compute_api:servers:{what}:get_all_tenants")
        return given.get("project_id") or given.get("tenant_id")
    return call.project_id


def _is_flag(text: str) -> bool:
    return text.strip().lower() in {"1", "0", "t", "f", "true", "false", "on", "off", "y", "n", "yes", "no"}


def _boolean(text: str, name: str) -> bool:
    if not _is_flag(text):
        raise Invalid(f"Invalid value '{text}' for {name}", hint="Use true or false.")
    return flag(text)


def _states(call: Call, given: dict[str, str], wanted: dict[str, Any]) -> bool:
    """Fill in the states asked for. False when none can match."""
    if "status" in given:
        pairs: list[tuple[str, tuple[str | None, ...] | None]] = []
        for one in call.query["status"]:
            pairs += [
                (vm_state, None if tasks is None else tuple(sorted(tasks, key=str)))
                for vm_state, tasks in statuses_to_states(one.upper())
            ]
        if not pairs:
            if call.version >= 38:
                raise Invalid("Invalid status value")
            return False
        if not call.is_admin and any(vm_state == "deleted" for vm_state, _ in pairs):
            raise Forbidden("Only administrators may list deleted instances")
        wanted["states"] = tuple(pairs)
    if "vm_state" in given:
        wanted["vm_states"] = tuple(call.query["vm_state"])
    if "task_state" in given:
        wanted["task_states"] = tuple(None if state == "None" else state for state in call.query["task_state"])
    if "power_state" in given:
        number = whole(given["power_state"])
        name = given["power_state"] if number is None else _POWER_NAMES.get(number)
        if name not in POWER_STATES:
            return False
        wanted["power_states"] = (name,)
    return True


def _gone(call: Call, given: dict[str, str]) -> bool | None:
    """Servers that were deleted, softly or not, are listed for administrators who ask and for nobody else, but for
    everybody among the changes since a time (null): the name of one that waits for its end is free for another.
    """
    if any(status.upper() == "DELETED" for status in call.query.get("status", ())) and call.is_admin:
        return True
    if "deleted" in given and call.is_admin:
        return _boolean(given["deleted"], "deleted")
    return None if "changes-since" in given else False


def _waiting_asked_for(wanted: dict[str, Any]) -> bool:
    """Who asks for the state of a soft delete sees the servers in it."""
    asked = {vm_state for vm_state, _ in wanted.get("states", ())} | set(wanted.get("vm_states", ()))
    return "soft-delete" in asked


def _sort(call: Call) -> tuple[tuple[str, str], ...]:
    keys = call.query.get("sort_key", [])
    directions = call.query.get("sort_dir", [])
    if any(direction not in {"asc", "desc"} for direction in directions):
        raise Invalid("Unknown sort direction, must be one of: asc, desc")
    if len(directions) > len(keys) and keys:
        raise Invalid("Sort direction size exceeds sort key size")
    if not call.is_admin and _SORT_ONLY_ADMINS & set(keys):
        names = ", ".join(sorted(_SORT_ONLY_ADMINS & set(keys)))
        raise Forbidden(f"Only administrators can sort servers by {names}")
    first = directions[0] if directions else "desc"
    pairs = [
        (key, directions[at] if at < len(directions) else first)
        for at, key in enumerate(keys)
        if key in _SORT_COLUMNS or key == "locked"
    ]
    return tuple(pairs) or (("created_at", first),)


def _answer(call: Call, servers: list[Server], shown: list[dict[str, Any]], query: ServerQuery, path: str) -> Reply:
    body: dict[str, Any] = {"servers": shown}
    if servers and len(servers) >= query.limit:
        pairs = [(name, value) for name, values in call.query.items() if name != "marker" for value in values]
        href = f"{call.root}/v2.1{call.project_path}/{path}?{urlencode([*pairs, ('marker', servers[-1].id)])}"
        body["servers_links"] = [{"rel": "next", "href": href}]
    return reply(body)


ROUTES = [Route("GET", "/servers", index), Route("GET", "/servers/detail", detailed)]
