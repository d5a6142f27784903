"""Bodies of POST /servers/{id}/action, by the key that names the action."""

from __future__ import annotations

from api.compute.schemas.servers import REBUILD
from api.compute.schemas.types import (
    ADMIN_PASSWORD,
    ANYTHING,
    AZ_NAME,
    BOOLEAN,
    DISK_CONFIG,
    FLAVOR_REF,
    HOSTNAME,
    IMAGE_ID,
    IP_ADDRESS,
    METADATA,
    NAME,
    NON_NEGATIVE,
    Schema,
    closed,
    wrapped,
)
from api.compute.validation import Schemas


def _one(key: str, value: Schema, since: int = 1) -> Schemas:
    return Schemas((since, wrapped(key, value)))


_NULL: Schema = {"type": "null"}
_HOST_OR_NULL: Schema = HOSTNAME | {"type": ["string", "null"]}
_BLOCK: Schema = {"block_migration": BOOLEAN, "disk_over_commit": BOOLEAN, "host": _HOST_OR_NULL}
_BLOCK_25: Schema = {"block_migration": BOOLEAN | {"enum": [*BOOLEAN["enum"], "auto"]}, "host": _HOST_OR_NULL}
_EVACUATE: Schema = {"host": HOSTNAME, "onSharedStorage": BOOLEAN, "adminPass": ADMIN_PASSWORD}
_EVACUATE_14: Schema = {"host": HOSTNAME, "adminPass": ADMIN_PASSWORD}
_BACKUP: Schema = {
    "name": NAME,
    "backup_type": {"type": "string"},
    "rotation": NON_NEGATIVE,
    "metadata": METADATA,
}
_UNSHELVE_77: Schema = {
    "type": ["object", "null"],
    "properties": {"availability_zone": NAME},
    "required": ["availability_zone"],
    "additionalProperties": False,
}
_UNSHELVE_91: Schema = {
    "anyOf": [
        {
            "type": ["object"],
            "properties": {"availability_zone": AZ_NAME | {"type": ["string", "null"]}, "host": {"type": "string"}},
            "additionalProperties": False,
        },
        {"type": ["null"]},
    ]
}
_LOCK_73: Schema = {
    "type": ["object", "null"],
    "properties": {"locked_reason": {"type": "string", "minLength": 1, "maxLength": 255}},
    "additionalProperties": False,
}
_LIVE = ("block_migration", "host")

# Those without an entry take any value, as in Nova.
ACTIONS: dict[str, Schemas] = {
    "reboot": _one(
        "reboot",
        closed({"type": {"type": "string", "enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}}, "type"),
    ),
    "resize": _one("resize", closed({"flavorRef": FLAVOR_REF, "OS-DCF:diskConfig": DISK_CONFIG}, "flavorRef")),
    "rebuild": REBUILD,
    "createImage": _one("createImage", closed({"name": NAME, "metadata": METADATA}, "name")),
    "createBackup": _one("createBackup", closed(_BACKUP, "name", "backup_type", "rotation")),
    "trigger_crash_dump": _one("trigger_crash_dump", _NULL, 17),
    "os-resetState": _one("os-resetState", closed({"state": {"type": "string", "enum": ["active", "error"]}}, "state")),
    "changePassword": _one("changePassword", closed({"adminPass": ADMIN_PASSWORD}, "adminPass")),
    "os-getConsoleOutput": _one(
        "os-getConsoleOutput",
        closed({"length": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]*$", "minimum": -1}}),
    ),
    "evacuate": Schemas(
        (1, wrapped("evacuate", closed(_EVACUATE, "onSharedStorage"))),
        (14, wrapped("evacuate", closed(_EVACUATE_14))),
        (29, wrapped("evacuate", closed(_EVACUATE_14 | {"force": BOOLEAN}))),
        (68, wrapped("evacuate", closed(_EVACUATE_14))),
    ),
    "lock": Schemas((1, wrapped("lock", ANYTHING)), (73, wrapped("lock", _LOCK_73))),
    "unshelve": Schemas(
        (1, wrapped("unshelve", ANYTHING)),
        (77, wrapped("unshelve", _UNSHELVE_77)),
        (91, wrapped("unshelve", _UNSHELVE_91)),
    ),
    "migrate": Schemas(
        (
            56,
            wrapped(
                "migrate",
                {"type": ["object", "null"], "properties": {"host": _HOST_OR_NULL}, "additionalProperties": False},
            ),
        )
    ),
    "os-migrateLive": Schemas(
        (1, wrapped("os-migrateLive", closed(_BLOCK, "block_migration", "disk_over_commit", "host"))),
        (25, wrapped("os-migrateLive", closed(_BLOCK_25, *_LIVE))),
        (30, wrapped("os-migrateLive", closed(_BLOCK_25 | {"force": BOOLEAN}, *_LIVE))),
        (68, wrapped("os-migrateLive", closed(_BLOCK_25, *_LIVE))),
    ),
    "addFixedIp": _one(
        "addFixedIp",
        closed({"networkId": {"type": ["string", "number"], "minLength": 1, "maxLength": 36}}, "networkId"),
    ),
    "removeFixedIp": _one("removeFixedIp", closed({"address": IP_ADDRESS}, "address")),
    "addFloatingIp": _one("addFloatingIp", closed({"address": IP_ADDRESS, "fixed_address": IP_ADDRESS}, "address")),
    "removeFloatingIp": _one("removeFloatingIp", closed({"address": IP_ADDRESS}, "address")),
    "os-getVNCConsole": _one(
        "os-getVNCConsole", closed({"type": {"type": "string", "enum": ["novnc", "xvpvnc"]}}, "type")
    ),
    "os-getSPICEConsole": _one(
        "os-getSPICEConsole", closed({"type": {"type": "string", "enum": ["spice-html5"]}}, "type")
    ),
    "os-getSerialConsole": _one(
        "os-getSerialConsole", closed({"type": {"type": "string", "enum": ["serial"]}}, "type")
    ),
    "rescue": _one(
        "rescue",
        {
            "type": ["object", "null"],
            "properties": {"adminPass": ADMIN_PASSWORD, "rescue_image_ref": IMAGE_ID},
            "additionalProperties": False,
        },
    ),
    "addSecurityGroup": _one("addSecurityGroup", closed({"name": {"type": "string", "minLength": 1}}, "name")),
    "removeSecurityGroup": _one("removeSecurityGroup", closed({"name": {"type": "string", "minLength": 1}}, "name")),
}
