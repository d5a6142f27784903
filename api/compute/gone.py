"""What Nova once had: always 410, or 404 above the microversion that ended it.

Until then the proxies of other services answer 501 here: their services have APIs of their own beside this one. Only
images are shown (`api.compute.images`).
"""

from __future__ import annotations

from api.compute import faults
from api.compute.call import Call, Reply
from api.compute.dispatch import Route
from domain.errors import Gone, NotImplementedHere

# (methods, path) that are gone for good.
_GONE: tuple[tuple[str, str], ...] = (
    ("GET POST", "/os-agents"),
    ("PUT DELETE", "/os-agents/{}"),
    ("GET POST", "/os-cells"),
    ("GET", "/os-cells/capacities"),
    ("GET", "/os-cells/detail"),
    ("GET", "/os-cells/info"),
    ("POST", "/os-cells/sync_instances"),
    ("GET PUT DELETE", "/os-cells/{}"),
    ("GET", "/os-cells/{}/capacities"),
    ("POST", "/os-certificates"),
    ("GET", "/os-certificates/{}"),
    ("GET POST", "/os-cloudpipe"),
    ("PUT", "/os-cloudpipe/{}"),
    ("GET", "/os-fixed-ips/{}"),
    ("POST", "/os-fixed-ips/{}/action"),
    ("GET", "/os-floating-ip-dns"),
    ("PUT DELETE", "/os-floating-ip-dns/{}"),
    ("GET PUT DELETE", "/os-floating-ip-dns/{}/entries/{}"),
    ("GET POST", "/os-floating-ips-bulk"),
    ("GET PUT", "/os-floating-ips-bulk/{}"),
    ("GET", "/os-fping"),
    ("GET", "/os-fping/{}"),
    ("POST", "/os-networks"),
    ("POST", "/os-networks/add"),
    ("DELETE", "/os-networks/{}"),
    ("POST", "/os-networks/{}/action"),
    ("GET POST", "/os-security-group-default-rules"),
    ("GET DELETE", "/os-security-group-default-rules/{}"),
    ("POST", "/os-tenant-networks"),
    ("DELETE", "/os-tenant-networks/{}"),
    ("GET POST", "/servers/{}/consoles"),
    ("GET DELETE", "/servers/{}/consoles/{}"),
    ("GET", "/servers/{}/os-virtual-interfaces"),
)

# (methods, path, last microversion, the API that has it now).
_PROXIES: tuple[tuple[str, str, int, str], ...] = (
    ("DELETE", "/images/{}", 35, "/image/v2"),
    ("POST PUT", "/images/{}/metadata", 38, "/image/v2"),
    ("PUT DELETE", "/images/{}/metadata/{}", 38, "/image/v2"),
    ("GET POST", "/os-baremetal-nodes", 35, "a bare metal service"),
    ("GET DELETE", "/os-baremetal-nodes/{}", 35, "a bare metal service"),
    ("POST", "/os-baremetal-nodes/{}/action", 35, "a bare metal service"),
    ("GET", "/os-floating-ip-pools", 35, "/network/v2.0"),
    ("GET POST", "/os-floating-ips", 35, "/network/v2.0"),
    ("GET DELETE", "/os-floating-ips/{}", 35, "/network/v2.0"),
    ("GET", "/os-networks", 35, "/network/v2.0"),
    ("GET", "/os-networks/{}", 35, "/network/v2.0"),
    ("POST", "/os-security-group-rules", 35, "/network/v2.0"),
    ("DELETE", "/os-security-group-rules/{}", 35, "/network/v2.0"),
    ("GET POST", "/os-security-groups", 35, "/network/v2.0"),
    ("GET PUT DELETE", "/os-security-groups/{}", 35, "/network/v2.0"),
    ("GET POST", "/os-snapshots", 35, "/volume/v3"),
    ("GET", "/os-snapshots/detail", 35, "/volume/v3"),
    ("GET DELETE", "/os-snapshots/{}", 35, "/volume/v3"),
    ("GET", "/os-tenant-networks", 35, "/network/v2.0"),
    ("GET", "/os-tenant-networks/{}", 35, "/network/v2.0"),
    ("GET POST", "/os-volumes", 35, "/volume/v3"),
    ("GET", "/os-volumes/detail", 35, "/volume/v3"),
    ("GET DELETE", "/os-volumes/{}", 35, "/volume/v3"),
)


async def gone(call: Call) -> Reply:
    raise Gone(faults.GONE)


def _elsewhere(place: str) -> NotImplementedHere:
    return NotImplementedHere("This proxy is not served.", hint=f"Use {place}.")


def _proxy(methods: str, path: str, until: int, place: str) -> list[Route]:
    async def refer(call: Call) -> Reply:
        raise _elsewhere(place)

    return [Route(method, path, refer, until=until) for method in methods.split()]


ROUTES = [
    *(Route(method, path, gone) for methods, path in _GONE for method in methods.split()),
    *(route for row in _PROXIES for route in _proxy(*row)),
]
