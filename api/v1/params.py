"""The parameters of every command on /v1/commands, as JSON Schema (2020-12), and their check.

A flavor, an image, a network or a key is given by id or name; `api.v1.resolve` looks it up. A command without an
entry in `PARAMS` can not be given here: it reads something, or needs an upload or a console of its own API.
"""

from __future__ import annotations

from typing import Any, Final

from jsonschema import Draft202012Validator

from domain.errors import Invalid

Schema = dict[str, Any]

_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_TEXT: Schema = {"type": ["string", "null"], "maxLength": 255}
_UUID: Schema = {"type": "string", "pattern": "^[0-9a-fA-F-]{32,36}$"}
_HOST: Schema = _NAME | {"description": "A host's name, as GET /v1/hosts lists it."}
_FLAVOR: Schema = _NAME | {"description": "Id or name of a flavor."}
_IMAGE: Schema = _NAME | {"description": "Id or name of an image."}
_PASSWORD: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "writeOnly": True}
_ADDRESS: Schema = {"type": ["string", "null"], "maxLength": 45}
_METADATA: Schema = {
    "type": "object",
    "maxProperties": 128,
    "propertyNames": {"minLength": 1, "maxLength": 255},
    "additionalProperties": {"type": "string", "maxLength": 255},
}
_TAGS: Schema = {
    "type": "array",
    "maxItems": 50,
    "items": {"type": "string", "minLength": 1, "maxLength": 60, "pattern": "^[^,/]*$"},
}


def _params(properties: Schema | None = None, *required: str) -> Schema:
    return {
        "type": "object",
        "properties": properties or {},
        "required": list(required),
        "additionalProperties": False,
    }


_NONE = _params()
_WITHOUT = (
    *("start", "reboot-soft", "reboot-hard", "pause", "unpause", "suspend", "resume"),
    *("delete", "force-delete", "soft-delete", "restore", "unlock", "unrescue", "shelve", "shelve-offload"),
    *("confirm-resize", "revert-resize", "trigger-crash-dump", "inject-network-info", "refresh-network"),
    "reset-network",
)

PARAMS: Final[dict[str, Schema]] = {
    **dict.fromkeys(_WITHOUT, _NONE),
    "create": _params(
        {
            "name": _NAME,
            "flavor": _FLAVOR,
            "image": _IMAGE,
            "description": _TEXT,
            "metadata": _METADATA,
            "tags": _TAGS,
            "key_name": _NAME,
            "networks": {
                "type": "array",
                "maxItems": 16,
                "items": _NAME | {"description": "Id or name of a network."},
                "description": "Left out: the one network there is. Empty: none.",
            },
            "availability_zone": _NAME,
            "host": _HOST,
            "config_drive": {"type": "boolean"},
            "user_data": {"type": "string", "maxLength": 65535, "contentEncoding": "base64"},
        },
        *("name", "flavor", "image"),
    ),
    "stop": _params({"grace_seconds": {"type": "integer", "minimum": 0, "maximum": 3600}}),
    "lock": _params({"reason": {"type": "string", "minLength": 1, "maxLength": 255}}),
    "update": _params(
        {
            "name": _NAME,
            "description": _TEXT,
            "hostname": {"type": "string", "minLength": 2, "maxLength": 63, "pattern": "^[a-zA-Z0-9][a-zA-Z0-9-]*$"},
            "access_ip_v4": _ADDRESS,
            "access_ip_v6": _ADDRESS,
            "disk_config": {"enum": ["AUTO", "MANUAL"]},
        }
    )
    | {"minProperties": 1},
    "metadata-set": _params({"metadata": _METADATA, "replace": {"type": "boolean"}}, "metadata"),
    "metadata-delete": _params({"key": {"type": "string", "minLength": 1, "maxLength": 255}}, "key"),
    "tags": _params({"tags": _TAGS}, "tags"),
    "reset-state": _params({"state": {"enum": ["active", "error"]}}, "state"),
    "rescue": _params({"image": _IMAGE, "admin_password": _PASSWORD}),
    "rebuild": _params(
        {
            "image": _IMAGE,
            "name": _NAME,
            "description": _TEXT,
            "metadata": _METADATA,
            "key_name": {"type": ["string", "null"], "maxLength": 255},
            "admin_password": _PASSWORD,
        },
        "image",
    ),
    "resize": _params({"flavor": _FLAVOR}, "flavor"),
    "unshelve": _params({"availability_zone": _NAME, "host": _HOST}),
    "set-password": _params({"password": _PASSWORD, "username": _NAME}, "password"),
    "create-image": _params({"name": _NAME, "metadata": _METADATA}, "name"),
    "create-backup": _params(
        {
            "name": _NAME,
            "backup_type": _NAME,
            "rotation": {"type": "integer", "minimum": 0, "maximum": 1000},
            "metadata": _METADATA,
        },
        *("name", "backup_type", "rotation"),
    ),
    "attach-volume": _params(
        {"volume_id": _UUID, "device": _NAME, "delete_on_termination": {"type": "boolean"}}, "volume_id"
    ),
    "detach-volume": _params({"volume_id": _UUID}, "volume_id"),
    "attach-interface": _params(
        {
            "network": _NAME | {"description": "Id or name of a network; a port is made there."},
            "fixed_ip": {"type": "string", "minLength": 3, "maxLength": 45},
            "port_id": _UUID | {"description": "Instead of a network: a port that is free."},
        }
    )
    | {"oneOf": [{"required": ["network"]}, {"required": ["port_id"]}]},
    "detach-interface": _params({"port_id": _UUID}, "port_id"),
    "add-security-group": _params({"group": _NAME}, "group"),
    "remove-security-group": _params({"group": _NAME}, "group"),
}

_VALIDATORS = {command: Draft202012Validator(schema) for command, schema in PARAMS.items()}


def check(command: str, params: dict[str, Any]) -> None:
    """Raise 422 for parameters that do not fit the command's schema; the text names the place."""
    error = next(iter(_VALIDATORS[command].iter_errors(params)), None)
    if error is not None:
        place = "/".join(("params", *(str(part) for part in error.absolute_path)))
        raise Invalid(
            f"{place}: {error.message}",
            code=422,
            reason="params",
            hint=f"GET /v1/commands shows the parameters of {command}.",
        )
