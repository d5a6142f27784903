"""Bodies and queries of /servers."""

from __future__ import annotations

from api.compute.schemas.types import (
    ADMIN_PASSWORD,
    BOOLEAN,
    COMMON,
    DESCRIPTION,
    DEVICE_TAG,
    DISK_CONFIG,
    FLAVOR_REF,
    FQDN,
    HOSTNAME,
    IMAGE_ID,
    IMAGE_ID_OR_EMPTY,
    IP_ADDRESS,
    IPV4,
    IPV6,
    LONG_FQDN,
    METADATA,
    NAME,
    NON_NEGATIVE,
    NULLABLE_UUID,
    PAGING,
    POSITIVE,
    STRINGS,
    TAG,
    UUID,
    Schema,
    closed,
    many,
    one,
    query,
    without,
    words,
    wrapped,
)
from api.compute.validation import Schemas

_PERSONALITY: Schema = {
    "type": "array",
    "items": closed({"path": {"type": "string"}, "contents": {"type": "string", "format": "base64"}}),
}
_USER_DATA: Schema = {"type": "string", "format": "base64", "maxLength": 65535}
_NETWORK: Schema = {"fixed_ip": IP_ADDRESS, "port": NULLABLE_UUID, "uuid": UUID}
_MAPPING: Schema = {
    "virtual_name": {"type": "string", "maxLength": 255},
    "volume_id": UUID,
    "snapshot_id": UUID,
    "volume_size": POSITIVE,
    "device_name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9._-r/]*$"},
    "delete_on_termination": BOOLEAN,
    "no_device": {},
    "connection_info": {"type": "string", "maxLength": 16777215},
}
_MAPPING_V2: Schema = _MAPPING | {
    "source_type": {"type": "string", "enum": ["volume", "image", "snapshot", "blank"]},
    "uuid": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._-]*$"},
    "image_id": IMAGE_ID,
    "destination_type": {"type": "string", "enum": ["local", "volume"]},
    "guest_format": {"type": "string", "maxLength": 255},
    "device_type": {"type": "string", "maxLength": 255},
    "disk_bus": {"type": "string", "maxLength": 255},
    "boot_index": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"},
}
_VOLUME_TYPE: Schema = {"type": ["null", "string"], "minLength": 0, "maxLength": 255}
_TAGS: Schema = {"type": "array", "maxItems": 50, "items": TAG}
_TRUSTED: Schema = {
    "type": ["array", "null"],
    "minItems": 1,
    "maxItems": 50,
    "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}
_UUIDS: Schema = {"oneOf": [UUID, {"type": "array", "items": UUID}]}
HINTS: Schema = {
    "type": "object",
    "properties": {
        "group": {"anyOf": [{"type": "array", "items": UUID, "minItems": 1, "maxItems": 1}, UUID]},
        "different_host": _UUIDS,
        "same_host": {"type": ["string", "array"]},
        "query": {"type": ["string", "object"]},
        "target_cell": NAME,
        "different_cell": {"type": ["string", "array"], "items": {"type": "string"}},
        "build_near_host_ip": IP_ADDRESS,
        "cidr": {"type": "string", "pattern": "^/[0-9a-f.:]+$"},
    },
    "additionalProperties": True,
}

_BASE: Schema = {
    "name": NAME,
    "imageRef": IMAGE_ID_OR_EMPTY,
    "flavorRef": FLAVOR_REF,
    "adminPass": ADMIN_PASSWORD,
    "metadata": METADATA,
    "networks": {"type": "array", "items": closed(_NETWORK)},
    "OS-DCF:diskConfig": DISK_CONFIG,
    "accessIPv4": IPV4,
    "accessIPv6": IPV6,
    "personality": _PERSONALITY,
    "availability_zone": NAME,
    "block_device_mapping": {"type": "array", "items": {**closed(_MAPPING), "additionalProperties": True}},
    "block_device_mapping_v2": {"type": "array", "items": closed(_MAPPING_V2)},
    "config_drive": BOOLEAN,
    "key_name": NAME,
    "min_count": POSITIVE,
    "max_count": POSITIVE,
    "return_reservation_id": BOOLEAN,
    "security_groups": {
        "type": "array",
        "items": {"type": "object", "properties": {"name": NAME}, "additionalProperties": False},
    },
    "user_data": _USER_DATA,
}


def _create(properties: Schema, *required: str) -> Schema:
    return closed(
        {
            "server": closed(properties, "name", "flavorRef", *required),
            "os:scheduler_hints": HINTS,
            "OS-SCH-HNT:scheduler_hints": HINTS,
        },
        "server",
    )


def _bdm(**more: Schema) -> Schema:
    return {"block_device_mapping_v2": {"type": "array", "items": closed(_MAPPING_V2 | more)}}


def _networks(**more: Schema) -> Schema:
    array = {"type": "array", "items": closed(_NETWORK | more)}
    return {"networks": {"oneOf": [array, {"type": "string", "enum": ["none", "auto"]}]}}


_19 = _BASE | {"description": DESCRIPTION}
_32 = _19 | {"networks": {"type": "array", "items": closed(_NETWORK | {"tag": DEVICE_TAG})}} | _bdm(tag=DEVICE_TAG)
_33 = _19 | {"networks": {"type": "array", "items": closed(_NETWORK | {"tag": DEVICE_TAG})}}
_37 = _19 | _networks()
_42 = _37 | _networks(tag=DEVICE_TAG) | _bdm(tag=DEVICE_TAG)
_52 = _42 | {"tags": _TAGS}
_57 = without(_52, "personality")
_63 = _57 | {"trusted_image_certificates": _TRUSTED}
_67 = _63 | _bdm(tag=DEVICE_TAG, volume_type=_VOLUME_TYPE)
_74 = _67 | {"host": HOSTNAME, "hypervisor_hostname": HOSTNAME}
_90 = _74 | {"hostname": FQDN}
_94 = _90 | {"hostname": LONG_FQDN}

CREATE = Schemas(
    (1, _create(_BASE)),
    (19, _create(_19)),
    (32, _create(_32)),
    (33, _create(_33)),
    (37, _create(_37, "networks")),
    (42, _create(_42, "networks")),
    (52, _create(_52, "networks")),
    (57, _create(_57, "networks")),
    (63, _create(_63, "networks")),
    (67, _create(_67, "networks")),
    (74, _create(_74, "networks")),
    (90, _create(_90, "networks")),
    (94, _create(_94, "networks")),
)

_UPDATE: Schema = {"name": NAME, "OS-DCF:diskConfig": DISK_CONFIG, "accessIPv4": IPV4, "accessIPv6": IPV6}


def _update(**more: Schema) -> Schema:
    return closed({"server": closed(_UPDATE | more)}, "server")


UPDATE = Schemas(
    (1, _update()),
    (19, _update(description=DESCRIPTION)),
    (90, _update(description=DESCRIPTION, hostname=FQDN)),
    (94, _update(description=DESCRIPTION, hostname=LONG_FQDN)),
)

_REBUILD: Schema = {
    "name": NAME,
    "imageRef": IMAGE_ID,
    "adminPass": ADMIN_PASSWORD,
    "metadata": METADATA,
    "preserve_ephemeral": BOOLEAN,
    "OS-DCF:diskConfig": DISK_CONFIG,
    "accessIPv4": IPV4,
    "accessIPv6": IPV6,
    "personality": _PERSONALITY,
}
_REBUILD_19 = _REBUILD | {"description": DESCRIPTION}
_REBUILD_54 = _REBUILD_19 | {"key_name": {"oneOf": [NAME, {"type": "null"}]}}
_REBUILD_57 = without(_REBUILD_54, "personality") | {"user_data": _USER_DATA | {"type": ["string", "null"]}}
_REBUILD_63 = _REBUILD_57 | {"trusted_image_certificates": _TRUSTED}

REBUILD = Schemas(
    *(
        (since, wrapped("rebuild", closed(properties, "imageRef")))
        for since, properties in (
            (1, _REBUILD),
            (19, _REBUILD_19),
            (54, _REBUILD_54),
            (57, _REBUILD_57),
            (63, _REBUILD_63),
            (90, _REBUILD_63 | {"hostname": FQDN}),
            (94, _REBUILD_63 | {"hostname": LONG_FQDN}),
        )
    )
)

METADATA_ALL = Schemas((1, wrapped("metadata", METADATA)))
METADATA_ITEM = Schemas((1, wrapped("meta", METADATA | {"minProperties": 1, "maxProperties": 1})))
TAGS = Schemas((26, wrapped("tags", _TAGS)))
TAG_NAME = Schemas((26, TAG))

# --- lists ---

_PLAIN = words(
    "user_id project_id tenant_id launch_index image_ref image host vm_state task_state uuid sort_dir all_tenants "
    "soft_deleted deleted status block_device_mapping services metadata system_metadata info_cache security_groups "
    "pci_devices"
)
_REGEX = words(
    "kernel_id ramdisk_id hostname key_name power_state node flavor reservation_id launched_at terminated_at "
    "availability_zone description display_description locked_by root_device_name config_drive "
    "access_ip_v4 access_ip_v6 auto_disk_config progress ip ip6 created_at"
)
_NAMES = words("name display_name")  # a name need not be an expression: what is none is meant as it is
SORT_KEYS = words(
    "access_ip_v4 access_ip_v6 auto_disk_config availability_zone config_drive created_at display_description "
    "display_name host hostname image_ref instance_type_id kernel_id key_name launch_index launched_at locked_by node "
    "power_state progress project_id ramdisk_id root_device_name task_state terminated_at updated_at user_id uuid "
    "vm_state"
)
# Accepted and ignored, because older clients send them.
_SORT_IGNORED = words(
    "architecture cell_name cleaned default_ephemeral_device default_swap_device deleted deleted_at disable_terminate "
    "ephemeral_gb ephemeral_key_uuid id key_data launched_on locked memory_mb os_type reservation_id root_gb "
    "shutdown_terminate user_data vcpus vm_mode"
)


def _sort(*more: str) -> Schema:
    return many({"type": "string", "enum": [*SORT_KEYS, *more]})


_LIST: Schema = {
    **dict.fromkeys(_PLAIN, STRINGS),
    **dict.fromkeys(_REGEX, COMMON),
    **dict.fromkeys(_NAMES, STRINGS),
    "sort_key": _sort(*_SORT_IGNORED),
    "changes-since": many({"type": "string", "format": "date-time"}),
    **PAGING,
}
_LIST_26 = _LIST | dict.fromkeys(
    ("tags", "tags-any", "not-tags", "not-tags-any"), many({"type": "string", "format": "regex"})
)
_LIST_66 = _LIST_26 | {
    "changes-since": one({"type": "string", "format": "date-time"}),
    "changes-before": one({"type": "string", "format": "date-time"}),
}
_LIST_73 = _LIST_66 | {"sort_key": _sort(*_SORT_IGNORED), "locked": COMMON}
_LIST_75 = _LIST_73 | {"sort_key": _sort("locked")}

LIST = Schemas(
    (1, query(_LIST)),
    (26, query(_LIST_26)),
    (66, query(_LIST_66)),
    (73, query(_LIST_73)),
    (75, query(_LIST_75, strict=True)),
    query=True,
)
# Held against names that found nothing.
NAMES = Schemas((1, query(dict.fromkeys(_NAMES, COMMON))), query=True)

__all__ = ["CREATE", "LIST", "METADATA_ALL", "METADATA_ITEM", "NAMES", "NON_NEGATIVE", "REBUILD", "TAGS", "UPDATE"]
