"""/os-instance_usage_audit_log: which hosts audited the usage of their servers in the last whole month.

None does, as in a Nova that was not told to (`instance_usage_audit`): the history keeps what an audit would write down,
and /os-simple-tenant-usage sums it. So the answer is always that no host has run it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from api.compute.hosts_known import all_hosts
from api.compute.policy import enforce
from domain.errors import Invalid


async def index(call: Call) -> Reply:
    """The audits of last month: no host runs any"""
    enforce(call, "os_compute_api:os-instance-usage-audit-log:list")
    return reply({"instance_usage_audit_logs": await _log(call, datetime.now(UTC).replace(tzinfo=None))})


async def show(call: Call) -> Reply:
    """The audits of the last month that was over at a time, such as 2026-01-02 03:04:05"""
    enforce(call, "os_compute_api:os-instance-usage-audit-log:show")
    given = call.params[0]
    try:
        before = datetime.strptime(given, "%Y-%m-%d %H:%M:%S.%f" if "." in given else "%Y-%m-%d %H:%M:%S")
        log = await _log(call, before)
    except (ValueError, OverflowError) as error:
        raise Invalid(
            f"Invalid timestamp for date {given}", hint="Write it as 2026-01-02 03:04:05, not before year 2."
        ) from error
    return reply({"instance_usage_audit_log": log})


async def _log(call: Call, before: datetime) -> dict[str, Any]:
    beginning, ending = last_month(before)
    hosts = [row.host.name for row in await all_hosts(call)]
    return {
        "period_beginning": beginning,
        "period_ending": ending,
        "num_hosts": len(hosts),
        "num_hosts_done": 0,
        "num_hosts_running": 0,
        "num_hosts_not_run": len(hosts),
        "hosts_not_run": hosts,
        "total_instances": 0,
        "total_errors": 0,
        "overall_status": f"0 of {len(hosts)} hosts done. 0 errors." if hosts else "ALL hosts done. 0 errors.",
        "log": {},
    }


def last_month(before: datetime) -> tuple[str, str]:
    """Beginning and end of the newest month that was over before the time (UTC, without saying so)."""
    ending = (before - timedelta(microseconds=1)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    beginning = (ending - timedelta(days=1)).replace(day=1)
    return beginning.isoformat(" "), ending.isoformat(" ")


ROUTES = [
    Route("GET", "/os-instance_usage_audit_log", index),
    Route("GET", "/os-instance_usage_audit_log/{}", show),
]
