"""POST /servers/{id}/action: the one key of the body names the action.

Found in one dictionary: the schema of its value, the microversions it exists in, and the function that carries it out.
Those that need nothing but the server are a line each (`SIMPLE`); the others are in `actions_disk`, `actions_move` and
`actions_access`.
"""

from __future__ import annotations

from typing import Any

from api.compute import actions_access, actions_disk, actions_move, faults
from api.compute.action import Action, Run
from api.compute.call import Call, Reply, empty
from api.compute.carry_out import carry_out
from api.compute.dispatch import Route
from api.compute.schemas.actions import ACTIONS as SCHEMAS
from domain.errors import Gone, Invalid, NotFound


def _simple(command: str, success: int = 202) -> Run:
    async def run(call: Call, server_id: str, value: Any) -> Reply:
        await carry_out(call, command, server_id)
        return empty(success)

    return run


def _simple_of_known(command: str) -> Run:
    """Start, stop and crash dump: an id that no server ever had is refused in other words."""
    run_simple = _simple(command)

    async def run(call: Call, server_id: str, value: Any) -> Reply:
        try:
            return await run_simple(call, server_id, value)
        except NotFound as refused:
            if await call.services.server(server_id) is not None:
                raise
            other = faults.never_existed(server_id)
            other.recorded = refused.recorded
            raise other from refused

    return run


SIMPLE: dict[str, str] = {
    "pause": "pause",
    "unpause": "unpause",
    "suspend": "suspend",
    "resume": "resume",
    "unrescue": "unrescue",
    "revertResize": "revert-resize",
    "shelveOffload": "shelve-offload",
    "restore": "restore",
    "forceDelete": "force-delete",
}


async def _reboot(call: Call, server_id: str, value: Any) -> Reply:
    await carry_out(call, "reboot-soft" if value["type"].upper() == "SOFT" else "reboot-hard", server_id)
    return empty(202)


async def _lock(call: Call, server_id: str, value: Any) -> Reply:
    reason = value.get("locked_reason") if call.version >= 73 and isinstance(value, dict) else None
    await carry_out(call, "lock", server_id, {"reason": reason} if reason else {})
    return empty(202)


async def _unlock(call: Call, server_id: str, value: Any) -> Reply:
    await carry_out(call, "unlock", server_id)
    return empty(202)


async def _reset_state(call: Call, server_id: str, value: Any) -> Reply:
    await carry_out(call, "reset-state", server_id, {"state": value["state"]})
    return empty(202)


async def _inject_network_info(call: Call, server_id: str, value: Any) -> Reply:
    await carry_out(call, "inject-network-info", server_id)
    return empty(202)


async def _reset_network(call: Call, server_id: str, value: Any) -> Reply:
    raise Gone(faults.GONE)


ACTIONS: dict[str, Action] = {
    **{key: Action(_simple(command)) for key, command in SIMPLE.items()},
    "confirmResize": Action(_simple("confirm-resize", 204)),
    "os-start": Action(_simple_of_known("start")),
    "os-stop": Action(_simple_of_known("stop")),
    "trigger_crash_dump": Action(_simple_of_known("trigger-crash-dump"), since=17),
    "reboot": Action(_reboot),
    "lock": Action(_lock),
    "unlock": Action(_unlock),
    "os-resetState": Action(_reset_state),
    "injectNetworkInfo": Action(_inject_network_info),
    "resetNetwork": Action(_reset_network),
    **actions_disk.ACTIONS,
    **actions_move.ACTIONS,
    **actions_access.ACTIONS,
}


async def act(call: Call) -> Reply:
    body = await call.object()
    if not body:
        raise Invalid("Malformed request body", hint='Name one action, such as {"os-stop": null}.')
    key = next(iter(body))
    action = ACTIONS.get(key)
    if action is None:
        raise Invalid(f"There is no such action: {key}", reason="action")
    if not action.since <= call.version <= action.until:
        raise faults.not_at_this_version()
    schemas = SCHEMAS.get(key)
    if schemas is not None:
        schemas.check(call.version, body)
    elif len(body) > 1:
        others = ", ".join(repr(name) for name in body if name != key)
        was = "was" if len(body) == 2 else "were"
        raise Invalid(f"Additional properties are not allowed ({others} {was} unexpected)", reason="schema")
    return await action.run(call, call.params[0], body[key])


ROUTES = [Route("POST", "/servers/{}/action", act)]
