"""The small aggregates beside the server: what they hold, and their three kinds of change.

Each is created, updated and deleted by events `<kind>.<verb>.succeeded` whose data is `{"patch": {...}}`: the fields
that changed, with their new values. The state types below are the schema; an unknown field or a wrong type is refused
before anything is appended. A deleted resource keeps its last state with `deleted = true`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Resource(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    id: str
    version: int = 0
    name: str = ""
    project_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    deleted: bool = False


class Flavor(Resource, frozen=True, omit_defaults=True, kw_only=True):
    vcpus: int
    ram: int  # MiB
    disk: int  # GiB
    ephemeral: int = 0
    swap: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    disabled: bool = False
    description: str | None = None
    extra_specs: dict[str, str] = {}
    access: tuple[str, ...] = ()  # projects, when not public
    flavor_id: str = ""  # the id users see: free text, unlike the aggregate's uuid


class Image(Resource, frozen=True, omit_defaults=True, kw_only=True):
    status: str = "queued"  # queued | saving | active | killed | deactivated
    visibility: str = "shared"
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    os_hidden: bool = False
    protected: bool = False
    tags: tuple[str, ...] = ()
    properties: dict[str, str] = {}
    owner_user_id: str = ""
    made_for: str = ""  # the server whose command fills it
    volume_id: str = ""  # the volume that is copied into it
    members: dict[str, str] = {}  # project and its answer (pending | accepted | rejected), when shared


class Network(Resource, frozen=True, omit_defaults=True, kw_only=True):
    description: str = ""
    admin_state_up: bool = True
    shared: bool = False
    external: bool = False
    mtu: int = 1450
    tags: tuple[str, ...] = ()
    is_default: bool = False


class Subnet(Resource, frozen=True, omit_defaults=True, kw_only=True):
    network_id: str
    cidr: str
    ip_version: int = 4
    gateway_ip: str | None = None
    enable_dhcp: bool = True
    allocation_pools: tuple[tuple[str, str], ...] = ()
    ipv6_ra_mode: str | None = None  # slaac | dhcpv6-stateful | dhcpv6-stateless
    ipv6_address_mode: str | None = None
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[dict[str, str], ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()


class PortAddress(msgspec.Struct, frozen=True, omit_defaults=True):
    address: str
    subnet_id: str


class Port(Resource, frozen=True, omit_defaults=True, kw_only=True):
    network_id: str
    mac: str
    fixed_ips: tuple[PortAddress, ...] = ()
    device_id: str = ""
    device_owner: str = ""
    binding_host: str = ""
    admin_state_up: bool = True
    status: str = "DOWN"
    security_groups: tuple[str, ...] = ()
    port_security_enabled: bool = True
    allowed_address_pairs: tuple[dict[str, str], ...] = ()  # ip_address (or prefix), mac_address
    description: str = ""
    tags: tuple[str, ...] = ()
    dns_name: str = ""
    reclaims: int = 0  # how often addresses were taken back that a change of it had claimed and never put to use


class Address(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """One address of a subnet, and the port that holds it (null: free). Its id is derived from subnet and address."""

    subnet_id: str
    address: str
    port_id: str | None = None


class SecurityGroup(Resource, frozen=True, omit_defaults=True, kw_only=True):
    description: str = ""
    rules: tuple[dict[str, Any], ...] = ()
    tags: tuple[str, ...] = ()
    is_default: bool = False


class Keypair(Resource, frozen=True, omit_defaults=True, kw_only=True):
    user_id: str
    public_key: str
    fingerprint: str
    key_type: str = "ssh"


class ServerGroup(Resource, frozen=True, omit_defaults=True, kw_only=True):
    user_id: str
    policy: str
    rules: dict[str, int] = {}
    members: tuple[str, ...] = ()


class Host(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """A hypervisor host, named by `name`: what its agent reported, and what operators set."""

    driver: str = ""
    hypervisor_type: str = ""
    hypervisor_version: int = 0
    vcpus: int = 0
    memory_mb: int = 0
    disk_gb: int = 0
    host_ip: str = ""
    cpu_info: dict[str, Any] = {}
    capabilities: tuple[str, ...] = ()
    availability_zone: str = "nova"
    disabled: bool = False
    disabled_reason: str | None = None
    forced_down: bool = False
    number: int = 0  # small integer id for old microversions
    up: bool = False  # the last that the control plane saw of its heartbeat
    down_since: datetime | None = None


class Project(Resource, frozen=True, omit_defaults=True, kw_only=True):
    description: str = ""
    enabled: bool = True
    domain_id: str = "default"
    quotas: dict[str, int] = {}


class User(Resource, frozen=True, omit_defaults=True, kw_only=True):
    password_hash: str = ""
    enabled: bool = True
    domain_id: str = "default"
    email: str | None = None
    description: str = ""
    default_project_id: str | None = None


class Role(Resource, frozen=True, omit_defaults=True, kw_only=True):
    description: str = ""


class Assignment(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """The roles one user has in one project (or system-wide). The id is derived from both."""

    user_id: str
    roles: tuple[str, ...] = ()  # role ids
    scope: str = "project"  # project | system | domain


class ApplicationCredential(Resource, frozen=True, omit_defaults=True, kw_only=True):
    user_id: str
    secret_hash: str
    roles: tuple[str, ...] = ()
    expires_at: datetime | None = None
    description: str = ""


class TokenRevocation(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """A token that ends before its time. Its id is derived from the token's audit id."""

    user_id: str
    expires_at: datetime  # the token's own end: past it nobody needs this record


class Volume(Resource, frozen=True, omit_defaults=True, kw_only=True):
    user_id: str = ""
    description: str | None = None
    size_gb: int = 1
    status: str = "creating"  # creating | available | reserved | attaching | in-use | detaching | deleting | error ...
    bootable: bool = False
    disk_format: str = "qcow2"
    image_id: str | None = None
    image_metadata: dict[str, str] = {}
    snapshot_id: str | None = None
    source_volume_id: str | None = None
    volume_type: str = "default"
    multiattach: bool = False
    readonly: bool = False
    metadata: dict[str, str] = {}
    availability_zone: str = "nova"
    attachments: tuple[dict[str, Any], ...] = ()
    reserved_for: str = ""  # until it is in use: the server whose command takes it, and by which token it is kept
    reservation: str = ""
    fault: str = ""


class VolumeSnapshot(Resource, frozen=True, omit_defaults=True, kw_only=True):
    user_id: str = ""
    volume_id: str
    size_gb: int
    description: str | None = None
    status: str = "creating"
    metadata: dict[str, str] = {}
    made_by: str = ""  # the server whose agent writes it


class Blob(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """Text kept once and named by its own digest, such as user data (base64, at most 64 KiB)."""

    text: str


class System(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """What tells this system from others, drawn at its first start."""

    identity: str


class HostAggregate(Resource, frozen=True, omit_defaults=True, kw_only=True):
    number: int = 0
    availability_zone: str | None = None
    hosts: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class Lease(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """Who does what only one process may do at a time. Its version is the term; an empty holder: free."""

    holder: str = ""


class Name(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """A name that one resource of a kind may have. Its id derives from both; an empty holder: free."""

    kind: str
    holder: str = ""


class QuotaClaim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Servers that are about to be created, `cores` and `ram` of each; with `resize`, what one is about to grow by."""

    servers: tuple[str, ...]
    cores: int
    ram: int
    at: datetime
    resize: str = ""  # the request that resizes it


class QuotaClaims(Resource, frozen=True, omit_defaults=True, kw_only=True):
    """What a project with limits has been granted and the read models may not count yet. Its id is the project's."""

    claims: tuple[QuotaClaim, ...] = ()


KINDS: dict[str, type[Resource]] = {
    "flavor": Flavor,
    "image": Image,
    "network": Network,
    "subnet": Subnet,
    "port": Port,
    "address": Address,
    "security_group": SecurityGroup,
    "keypair": Keypair,
    "server_group": ServerGroup,
    "host": Host,
    "project": Project,
    "user": User,
    "role": Role,
    "assignment": Assignment,
    "application_credential": ApplicationCredential,
    "token_revocation": TokenRevocation,
    "volume": Volume,
    "volume_snapshot": VolumeSnapshot,
    "blob": Blob,
    "host_aggregate": HostAggregate,
    "system": System,
    "lease": Lease,
    "name": Name,
    "quota_claims": QuotaClaims,
}


class ResourceChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data of every resource event: the fields that changed, as plain JSON values."""

    patch: dict[str, Any]
    reason: str = ""


class InvalidResource(ValueError):
    """A field is unknown or has the wrong type; the text names it."""


def evolve(
    kind: str, state: Resource | None, id_: str, change: ResourceChange, at: datetime, *, version: int = 0
) -> Resource:
    """The resource after a change. Raises `InvalidResource` when the fields do not fit the kind's schema.

    `state` null starts afresh; `version` is then the version that a deleted predecessor of the same id had.
    """
    type_ = KINDS[kind]
    known = {field.name for field in msgspec.structs.fields(type_)}
    unknown = sorted(set(change.patch) - known)
    if unknown:
        raise InvalidResource(f"{kind} has no field {', '.join(unknown)}")
    values: dict[str, Any] = {} if state is None else {name: getattr(state, name) for name in known}
    values |= change.patch
    values |= {"id": id_, "version": values.get("version", version) + 1, "updated_at": at}
    values.setdefault("created_at", at)
    try:
        return msgspec.convert(msgspec.to_builtins(values, builtin_types=(datetime,)), type_)
    except msgspec.ValidationError as error:
        raise InvalidResource(f"{kind}: {error}") from error


def decode(kind: str, state: bytes | msgspec.Raw) -> Resource:
    return msgspec.json.decode(state, type=KINDS[kind])


_encode = msgspec.json.Encoder().encode


def encode(resource: Resource) -> bytes:
    return _encode(resource)
