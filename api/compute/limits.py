"""/limits: what a project may have and has, in the words of old clients."""

from __future__ import annotations

from api.compute import quota
from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from api.compute.policy import enforce
from api.compute.schemas.types import STRINGS, query
from api.compute.validation import Schemas

_PROJECT = {"tenant_id": STRINGS}
QUERY = Schemas((1, query(_PROJECT)), (75, query(_PROJECT, strict=True)), query=True)

_NAMES = {
    "maxTotalInstances": "instances",
    "maxTotalCores": "cores",
    "maxTotalRAMSize": "ram",
    "maxTotalKeypairs": "key_pairs",
    "maxServerMeta": "metadata_items",
    "maxServerGroups": "server_groups",
    "maxServerGroupMembers": "server_group_members",
}


async def index(call: Call) -> Reply:
    QUERY.check(call.version, call.query)
    enforce(call, "os_compute_api:limits")
    project_id = call.argument("tenant_id") or call.argument("project_id") or call.project_id
    if project_id != call.project_id:
        enforce(call, "os_compute_api:limits:other_project")
    limits = await quota.limits_of(call, project_id)
    usage = await call.services.read.usage(project_id or "")
    groups = await call.services.read.resources("server_group", project_id=project_id)
    absolute = {shown: limits[name] for shown, name in _NAMES.items()} | {
        "totalInstancesUsed": usage.instances,
        "totalCoresUsed": usage.cores,
        "totalRAMUsed": usage.ram,
        "totalServerGroupsUsed": len(groups),
    }
    if call.version < 36:
        absolute |= {
            "maxTotalFloatingIps": -1,
            "maxSecurityGroups": -1,
            "maxSecurityGroupRules": -1,
            "totalFloatingIpsUsed": 0,
            "totalSecurityGroupsUsed": 0,
        }
    if call.version < 39:
        absolute["maxImageMeta"] = limits["metadata_items"]
    if call.version < 57:
        absolute["maxPersonality"] = limits["injected_files"]
        absolute["maxPersonalitySize"] = limits["injected_file_content_bytes"]
    return reply({"limits": {"rate": [], "absolute": absolute}})


ROUTES = [Route("GET", "/limits", index)]
