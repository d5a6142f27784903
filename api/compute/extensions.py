"""/extensions: the fixed list that old clients read. It holds only what is served."""

from __future__ import annotations

from typing import Any

from api.compute.call import Call, Reply, reply
from api.compute.dispatch import Route
from api.compute.policy import enforce
from domain.errors import NotFound

_UPDATED = "2014-12-03T00:00:00Z"

# alias: (name, what it stands for). Only what is served.
_ALIASES: dict[str, tuple[str, str]] = {
    "OS-DCF": ("DiskConfig", "Disk management extension"),
    "OS-EXT-AZ": ("ExtendedAvailabilityZone", "Availability zone of servers"),
    "OS-EXT-IPS": ("ExtendedIps", "Types of addresses"),
    "OS-EXT-IPS-MAC": ("ExtendedIpsMac", "MAC addresses of addresses"),
    "OS-EXT-SRV-ATTR": ("ExtendedServerAttributes", "Host and names of servers, for administrators"),
    "OS-EXT-STS": ("ExtendedStatus", "States of servers"),
    "OS-FLV-DISABLED": ("FlavorDisabled", "Disabled flavors"),
    "OS-FLV-EXT-DATA": ("FlavorExtraData", "Ephemeral disks of flavors"),
    "OS-SCH-HNT": ("SchedulerHints", "Hints for placing servers"),
    "OS-SRV-USG": ("ServerUsage", "Launch and end times of servers"),
    "os-admin-actions": ("AdminActions", "Actions for administrators"),
    "os-admin-password": ("AdminPassword", "Changing a server's password"),
    "os-aggregates": ("Aggregates", "Sets of hosts"),
    "os-attach-interfaces": ("AttachInterfaces", "Interfaces of servers"),
    "os-availability-zone": ("AvailabilityZone", "Availability zones"),
    "os-config-drive": ("ConfigDrive", "Config drives"),
    "os-console-output": ("ConsoleOutput", "Console logs"),
    "os-consoles": ("Consoles", "Interactive consoles"),
    "os-create-backup": ("CreateBackup", "Backups of servers"),
    "os-deferred-delete": ("DeferredDelete", "Deletes that can be taken back"),
    "os-evacuate": ("Evacuate", "Rebuilding servers of dead hosts"),
    "os-extended-volumes": ("ExtendedVolumes", "Volumes of servers"),
    "os-flavor-access": ("FlavorAccess", "Private flavors"),
    "os-flavor-extra-specs": ("FlavorExtraSpecs", "Extra specs of flavors"),
    "os-flavor-manage": ("FlavorManage", "Making flavors"),
    "os-hypervisors": ("Hypervisors", "Hosts"),
    "os-instance-actions": ("InstanceActions", "History of servers"),
    "os-keypairs": ("Keypairs", "SSH keys"),
    "os-lock-server": ("LockServer", "Locking servers"),
    "os-migrate-server": ("MigrateServer", "Moving servers"),
    "os-migrations": ("Migrations", "Moves of servers"),
    "os-multiple-create": ("MultipleCreate", "Many servers at once"),
    "os-pause-server": ("PauseServer", "Pausing servers"),
    "os-quota-class-sets": ("QuotaClasses", "Default quotas"),
    "os-quota-sets": ("Quotas", "Quotas of projects"),
    "os-remote-consoles": ("RemoteConsoles", "Consoles by token"),
    "os-rescue": ("Rescue", "Rescuing servers"),
    "os-security-groups": ("SecurityGroups", "Security groups of servers"),
    "os-server-diagnostics": ("ServerDiagnostics", "Diagnostics of servers"),
    "os-server-external-events": ("ServerExternalEvents", "News from other services"),
    "os-server-groups": ("ServerGroups", "Affinity of servers"),
    "os-server-password": ("ServerPassword", "Passwords of servers"),
    "os-services": ("Services", "Services on hosts"),
    "os-shelve": ("Shelve", "Shelving servers"),
    "os-simple-tenant-usage": ("SimpleTenantUsage", "Usage of projects"),
    "os-suspend-server": ("SuspendServer", "Suspending servers"),
    "os-user-data": ("UserData", "User data of servers"),
    "os-volumes": ("Volumes", "Volumes of servers"),
}


def _view(alias: str) -> dict[str, Any]:
    name, description = _ALIASES[alias]
    return {
        "alias": alias,
        "name": name,
        "description": description,
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": _UPDATED,
        "links": [],
    }


async def index(call: Call) -> Reply:
    enforce(call, "os_compute_api:extensions")
    return reply({"extensions": [_view(alias) for alias in sorted(_ALIASES)]})


async def show(call: Call) -> Reply:
    enforce(call, "os_compute_api:extensions")
    alias = call.params[0]
    if alias not in _ALIASES:
        raise NotFound(f"Extension with name {alias} not found")
    return reply({"extension": _view(alias)})


ROUTES = [Route("GET", "/extensions", index), Route("GET", "/extensions/{}", show)]
