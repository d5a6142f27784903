"""The configuration of the embedded nats-server, and who may do what on it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

MAX_PAYLOAD_BYTES = 8 << 20
MAX_MEMORY_STORE_BYTES = 256 << 20
ORDERS_STREAM = "ORDERS"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
# nats-server takes a password that starts like this for a bcrypt hash.
_BCRYPT = "$2"
_PRINTABLE = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True)
class NatsUser:
    """A user of the embedded server. A list of None allows every subject."""

    name: str
    password: str
    publish_allow: list[str] | None = None
    subscribe_allow: list[str] | None = None


def agent_user(host: str, password: str) -> NatsUser:
    """A hypervisor agent's user: its own orders, reports, heartbeat and service subjects, and nothing else."""
    if not _TOKEN.fullmatch(host):
        raise ValueError(f"no host can be named {host!r}: letters, digits, '-' and '_' only")
    return NatsUser(
        name=host,
        password=password,
        publish_allow=[
            f"reports.{host}.>",
            f"heartbeat.{host}",
            f"$JS.API.CONSUMER.INFO.{ORDERS_STREAM}.{host}",
            f"$JS.API.CONSUMER.MSG.NEXT.{ORDERS_STREAM}.{host}",
            f"$JS.ACK.{ORDERS_STREAM}.{host}.>",
            f"_INBOX.{host}.>",
        ],
        subscribe_allow=[f"_INBOX.{host}.>", f"agent.{host}.>"],
    )


def server_config(directory: Path, port: int, sync_interval: str | None, auth: list[NatsUser] | None) -> str:
    """The text of the configuration file; port -1 lets the server choose a free one."""
    sync = f", sync_interval: {_quoted(sync_interval)}" if sync_interval else ""
    lines = [
        'server_name: "chronova"',
        'host: "127.0.0.1"',
        f"port: {port}",
        f"ports_file_dir: {_quoted(str(directory))}",
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        f"jetstream {{ store_dir: {_quoted(str(directory))}, max_memory_store: {MAX_MEMORY_STORE_BYTES}{sync} }}",
    ]
    if auth is not None:
        lines += ["authorization {", "  users: [", *(f"    {_user(user)}" for user in auth), "  ]", "}"]
    return "\n".join(lines) + "\n"


def _user(user: NatsUser) -> str:
    if not _PRINTABLE.fullmatch(user.name) or not _PRINTABLE.fullmatch(user.password):
        raise ValueError(f"NATS user {user.name!r}: name and password must be printable ASCII without blanks")
    if user.password.startswith(_BCRYPT):
        raise ValueError(f"NATS user {user.name!r}: a password must not start with {_BCRYPT}")
    permissions = []
    if user.publish_allow is not None:
        permissions.append(f"publish: {{ allow: {json.dumps(user.publish_allow)} }}")
    if user.subscribe_allow is not None:
        permissions.append(f"subscribe: {{ allow: {json.dumps(user.subscribe_allow)} }}")
        # Who may not publish everywhere still has to answer the requests that reach it.
        permissions.append('allow_responses: { max: 1, expires: "1m" }')
    allowed = f", permissions: {{ {', '.join(permissions)} }}" if permissions else ""
    return f"{{ user: {_quoted(user.name)}, password: {_quoted(user.password)}{allowed} }}"


def _quoted(text: str) -> str:
    return json.dumps(text)
