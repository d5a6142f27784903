"""The config drive: an ISO 9660 image labelled config-2, laid out as OpenStack's (cloud-init reads it as such).

It stands in for a metadata service, so it is written anew before every start: a guest that boots reads what its server
is by then.

https://docs.openstack.org/nova/latest/user/metadata.html describes the files.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pycdlib

from domain.orders import AddressSpec, GuestSpec, NicSpec
from hypervisor_agent.driver import OrderFailed

LABEL = "config-2"
VERSION = "latest"
SEED_BYTES = 512  # of random_seed, as Nova's


def write(path: Path, files: dict[str, bytes]) -> None:
    """Write the drive, whole or not at all. Blocking, a few milliseconds."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    _folder(iso, "openstack")
    _folder(iso, f"openstack/{VERSION}")
    for name, content in files.items():
        full = f"openstack/{VERSION}/{name}"
        iso.add_fp(
            BytesIO(content),
            len(content),
            f"/OPENSTACK/{VERSION.upper()}/{_iso_name(name)};1",
            rr_name=name,
            joliet_path=f"/{full}",
        )
    fresh = path.with_suffix(".new")
    iso.write(str(fresh))
    iso.close()
    fresh.replace(path)


def contents(spec: GuestSpec, seed: bytes, devices: Sequence[dict[str, Any]] = ()) -> dict[str, bytes]:
    """The files by name. `seed`: entropy for the guest; `devices`: those with a tag, as `tagged` finds them."""
    files = {
        "meta_data.json": _json(meta_data(spec, seed, devices)),
        "network_data.json": _json(network_data(spec.nics)),
        "vendor_data.json": _json({}),
    }
    if spec.user_data:
        try:
            files["user_data"] = base64.b64decode(spec.user_data)
        except binascii.Error as error:
            raise OrderFailed("bad_user_data", "The user data is not base64. Send it encoded.", str(error)) from error
    return files


def meta_data(spec: GuestSpec, seed: bytes, devices: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    data: dict[str, Any] = {
        "uuid": spec.server_id,
        "name": spec.name,
        "hostname": spec.hostname,
        "project_id": spec.project_id,
        "availability_zone": spec.availability_zone,
        "launch_index": 0,
        "meta": spec.metadata,
        "public_keys": dict(spec.ssh_public_keys),
        "keys": [{"name": name, "type": _key_type(key), "data": key} for name, key in spec.ssh_public_keys],
        "random_seed": base64.b64encode(seed).decode(),
        "devices": list(devices),
        "dedicated_cpus": [],
    }
    if spec.admin_password:
        data["admin_pass"] = spec.admin_password
    return data


def _key_type(key: str) -> str:
    """A certificate's text begins so; an SSH key is one line of another form."""
    return "x509" if key.startswith("-----BEGIN") else "ssh"


def network_data(nics: tuple[NicSpec, ...]) -> dict[str, Any]:
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, Any]] = []
    for nic in nics:
        link = f"tap{nic.port_id[:11]}"
        links.append(
            {
                "id": link,
                "vif_id": nic.port_id,
                "type": "bridge",
                "mtu": nic.mtu,
                "ethernet_mac_address": nic.mac,
            }
        )
        for number, address in enumerate(nic.addresses):
            networks.append(_network(f"network-{nic.port_id[:8]}-{number}", link, nic, address))
            services.extend({"type": "dns", "address": server} for server in address.dns)
    return {"links": links, "networks": networks, "services": services}


def _network(name: str, link: str, nic: NicSpec, address: AddressSpec) -> dict[str, Any]:
    interface = ipaddress.ip_interface(f"{address.address}/{address.prefix_length}")
    nothing = "0.0.0.0" if address.version == 4 else "::"
    routes = [{"network": nothing, "netmask": nothing, "gateway": address.gateway}] if address.gateway else []
    plain = address.version == 4
    return {
        "id": name,
        "link": link,
        "type": f"ipv{address.version}",
        "network_id": nic.network_id,
        "ip_address": address.address if plain else str(interface),
        "netmask": str(interface.netmask),
        "routes": routes,
        "services": [{"type": "dns", "address": server} for server in address.dns],
    }


def _folder(iso: Any, name: str) -> None:
    upper = "/".join(part.upper() for part in name.split("/"))
    iso.add_directory(f"/{upper}", rr_name=name.rsplit("/", 1)[-1], joliet_path=f"/{name}")


def _iso_name(name: str) -> str:
    stem, _, suffix = name.upper().partition(".")
    return f"{stem}.{suffix}"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()
