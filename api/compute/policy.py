"""Who may read or change what, by Nova's rule names and default roles.

Server commands are authorized again, on the server as it then is, by `commands`; this is for everything else and for
refusals that have to come before anything is looked up. Asking for a rule without an entry is a defect.
"""

from __future__ import annotations

from api.compute.call import Call
from domain.errors import Forbidden
from domain.policy import allowed

ANY = "ANY"
ADMIN = "ADMIN"
READER = "PROJECT_READER_OR_ADMIN"
MEMBER = "PROJECT_MEMBER_OR_ADMIN"
MANAGER = "PROJECT_MANAGER_OR_ADMIN"
SERVICE = "SERVICE_OR_ADMIN"

_O = "os_compute_api:"

RULES: dict[str, str] = {
    "compute:server:topology:host:index": ADMIN,
    "compute:server:topology:index": READER,
    "compute:servers:create:requested_destination": ADMIN,
    "compute:aggregates:images": ADMIN,
    **{
        _O + name: rule
        for rule, names in {
            ANY: (
                "extensions",
                "limits",
                "os-availability-zone:list",
                "os-keypairs:create",
                "os-keypairs:delete",
                "os-keypairs:index",
                "os-keypairs:show",
            ),
            READER: (
                "ips:index",
                "ips:show",
                "os-attach-interfaces:list",
                "os-attach-interfaces:show",
                "os-flavor-extra-specs:index",
                "os-flavor-extra-specs:show",
                "os-instance-actions:list",
                "os-instance-actions:show",
                "os-quota-sets:defaults",
                "os-quota-sets:detail",
                "os-quota-sets:show",
                "os-security-groups:list",
                "os-server-groups:index",
                "os-server-groups:show",
                "os-server-password:show",
                "os-server-tags:index",
                "os-server-tags:show",
                "os-simple-tenant-usage:show",
                "os-volumes-attachments:index",
                "os-volumes-attachments:show",
                "server-metadata:index",
                "server-metadata:show",
                "servers:detail",
                "servers:index",
                "servers:show",
            ),
            MEMBER: (
                "os-admin-password",
                "os-attach-interfaces:create",
                "os-attach-interfaces:delete",
                "os-console-output",
                "os-create-backup",
                "os-lock-server:unlock",
                "os-multinic:add",
                "os-multinic:remove",
                "os-floating-ips:add",
                "os-floating-ips:remove",
                "os-remote-consoles",
                "os-rescue",
                "os-security-groups:add",
                "os-security-groups:remove",
                "os-server-groups:create",
                "os-server-groups:delete",
                "os-server-password:clear",
                "os-server-tags:delete",
                "os-server-tags:delete_all",
                "os-server-tags:update",
                "os-server-tags:update_all",
                "os-shelve:shelve",
                "os-shelve:unshelve",
                "os-volumes-attachments:create",
                "os-volumes-attachments:delete",
                "os-volumes-attachments:update",
                "server-metadata:create",
                "server-metadata:delete",
                "server-metadata:update",
                "server-metadata:update_all",
                "servers:create",
                "servers:create:attach_network",
                "servers:create:attach_volume",
                "servers:create_image",
                "servers:rebuild",
                "servers:resize",
                "servers:update",
            ),
            MANAGER: (
                "os-migrate-server:migrate",
                "os-migrate-server:migrate_live",
                "os-migrations:index",
                "servers:migrations:delete",
                "servers:migrations:force_complete",
                "servers:migrations:index",
            ),
            SERVICE: (
                "os-assisted-volume-snapshots:create",
                "os-assisted-volume-snapshots:delete",
                "os-server-external-events:create",
                "os-volumes-attachments:swap",
            ),
            ADMIN: (
                "limits:other_project",
                "os-admin-actions:inject_network_info",
                "os-admin-actions:reset_state",
                "os-aggregates:add_host",
                "os-aggregates:create",
                "os-aggregates:delete",
                "os-aggregates:index",
                "os-aggregates:remove_host",
                "os-aggregates:set_metadata",
                "os-aggregates:show",
                "os-aggregates:update",
                "os-availability-zone:detail",
                "os-console-auth-tokens",
                "os-evacuate",
                "os-extended-server-attributes",
                "os-flavor-access",
                "os-flavor-access:add_tenant_access",
                "os-flavor-access:remove_tenant_access",
                "os-flavor-extra-specs:create",
                "os-flavor-extra-specs:delete",
                "os-flavor-extra-specs:update",
                "os-flavor-manage:create",
                "os-flavor-manage:delete",
                "os-flavor-manage:update",
                "os-hosts:list",
                "os-hosts:reboot",
                "os-hosts:show",
                "os-hosts:shutdown",
                "os-hosts:start",
                "os-hosts:update",
                "os-hypervisors:list",
                "os-hypervisors:list-detail",
                "os-hypervisors:search",
                "os-hypervisors:servers",
                "os-hypervisors:show",
                "os-hypervisors:statistics",
                "os-hypervisors:uptime",
                "os-instance-actions:events",
                "os-instance-actions:events:details",
                "os-instance-usage-audit-log:list",
                "os-instance-usage-audit-log:show",
                "os-migrate-server:migrate:host",
                "os-migrate-server:migrate_live:host",
                "os-migrations:index:all_projects",
                "os-migrations:index:host",
                "os-quota-class-sets:show",
                "os-quota-class-sets:update",
                "os-quota-sets:delete",
                "os-quota-sets:update",
                "os-server-diagnostics",
                "os-server-groups:index:all_projects",
                "os-services:delete",
                "os-services:list",
                "os-services:update",
                "os-shelve:unshelve_to_host",
                "os-simple-tenant-usage:list",
                "servers:allow_all_filters",
                "servers:create:forced_host",
                "servers:create:zero_disk_flavor",
                "servers:detail:get_all_tenants",
                "servers:index:get_all_tenants",
                "servers:migrations:index:host",
                "servers:migrations:show",
                "servers:show:host_status",
            ),
        }.items()
        for name in names
    },
}

_SAME = "\0"


def may(call: Call, rule: str, target_project: str | None = _SAME) -> bool:
    """Whether the caller passes `rule` for something of `target_project` (default: the caller's own)."""
    caller = call.caller.actor
    target = caller.project_id if target_project is _SAME else target_project
    return allowed(RULES[rule], caller.roles, caller.project_id, target)


def enforce(call: Call, rule: str, target_project: str | None = _SAME) -> None:
    """Raise `Forbidden` in Nova's words unless the caller passes `rule`."""
    if not may(call, rule, target_project):
        raise Forbidden(f"Policy doesn't allow {rule} to be performed.", reason="policy")
