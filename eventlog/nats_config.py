"""The configuration of the embedded nats-server, and who may do what on it.

The control plane and every agent process have an account each. Permissions alone would not hold a hostile agent back:
it can name any subject as the *reply* of a request, and the server then publishes the answer there with its own
rights, which would put an acknowledgement or an order into the log. In an account of its own a reply can only reach
what that account imports, and an agent's account imports the subjects of its own hosts.

An agent fetches its orders from the consumer named like its host (`js.pull_subscribe_bind(host, "ORDERS")`). It can not
ask for the consumer's description: that part of the JetStream API does not cross accounts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_PAYLOAD_BYTES = 8 << 20
MAX_MEMORY_STORE_BYTES = 256 << 20
ORDERS_STREAM = "ORDERS"
CONTROL_ACCOUNT = "CONTROL"
# Local use without users: whoever can connect is the control plane.
ANYONE = "anyone"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_PRINTABLE = re.compile(r"[!-~]{1,256}")
# nats-server takes a password that starts like this for a bcrypt hash.
_BCRYPT = "$2"


@dataclass(frozen=True)
class NatsUser:
    """A user of the embedded server. A list of None allows every subject; `hosts` are those that an agent serves."""

    name: str
    password: str
    publish_allow: list[str] | None = None
    subscribe_allow: list[str] | None = None
    hosts: tuple[str, ...] = ()


def agent_user(host: str, password: str) -> NatsUser:
    """A hypervisor agent's user: its own orders, reports, heartbeat and service subjects, and nothing else."""
    return agents_user(host, password, [host])


def agents_user(name: str, password: str, hosts: Sequence[str]) -> NatsUser:
    """The user of a process that is the agent of several hosts; its inboxes are `_INBOX.<name>.>`."""
    for token in (name, *hosts):
        if not _TOKEN.fullmatch(token):
            raise ValueError(f"no host can be named {token!r}: letters, digits, '-' and '_' only")
    services = [subject for host in hosts for subject in (*_services_for_agents(host), _fetch_orders(host))]
    return NatsUser(
        name=name,
        password=password,
        publish_allow=[*services, f"_INBOX.{name}.>"],
        subscribe_allow=[f"_INBOX.{name}.>", *(f"agent.{host}.>" for host in hosts)],
        hosts=tuple(hosts),
    )


def server_config(directory: Path, port: int, sync_interval: str | None, auth: list[NatsUser] | None) -> str:
    """The text of the configuration file; port -1 lets the server choose a free one."""
    sync = f", sync_interval: {_quoted(sync_interval)}" if sync_interval else ""
    users = [NatsUser(ANYONE, "-")] if auth is None else auth
    agents = [user for user in users if user.hosts]
    lines = [
        'server_name: "chronova"',
        'host: "127.0.0.1"',
        f"port: {port}",
        f"ports_file_dir: {_quoted(str(directory))}",
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        f"jetstream {{ store_dir: {_quoted(str(directory))}, max_memory_store: {MAX_MEMORY_STORE_BYTES}{sync} }}",
        *([f"no_auth_user: {ANYONE}"] if auth is None else []),
        "accounts {",
        *_control_account([user for user in users if not user.hosts], agents),
        *(line for agent in agents for line in _agent_account(agent)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _services_for_agents(host: str) -> list[str]:
    """The subjects of the control plane that an agent of a host may send to."""
    return [
        f"reports.{host}.>",
        f"heartbeat.{host}",
        f"$JS.ACK.{ORDERS_STREAM}.{host}.>",
    ]


def _fetch_orders(host: str) -> str:
    return f"$JS.API.CONSUMER.MSG.NEXT.{ORDERS_STREAM}.{host}"


def _control_account(users: list[NatsUser], agents: list[NatsUser]) -> list[str]:
    hosts = [(agent, host) for agent in agents for host in agent.hosts]
    exports = [_service(subject) for _, host in hosts for subject in _services_for_agents(host)]
    # One request for orders has many answers.
    exports += [_service(_fetch_orders(host), ", response_type: stream") for _, host in hosts]
    imports = [_service_of(_agent_account_name(agent), f"agent.{host}.>") for agent, host in hosts]
    return _account(CONTROL_ACCOUNT, users, exports, imports, "jetstream: enabled")


def _agent_account(agent: NatsUser) -> list[str]:
    exports = [_service(f"agent.{host}.>") for host in agent.hosts]
    imports = [
        _service_of(CONTROL_ACCOUNT, subject)
        for host in agent.hosts
        for subject in (*_services_for_agents(host), _fetch_orders(host))
    ]
    return _account(_agent_account_name(agent), [agent], exports, imports)


def _service(subject: str, more: str = "") -> str:
    return f"{{ service: {_quoted(subject)}{more} }}"


def _service_of(account: str, subject: str) -> str:
    return f"{{ service: {{ account: {account}, subject: {_quoted(subject)} }} }}"


def _agent_account_name(agent: NatsUser) -> str:
    return f"AGENT_{agent.name}"


def _account(name: str, users: list[NatsUser], exports: list[str], imports: list[str], *more: str) -> list[str]:
    return [
        f"  {name} {{",
        *(f"    {line}" for line in more),
        *_block("users", [_user(user) for user in users]),
        *_block("exports", exports),
        *_block("imports", imports),
        "  }",
    ]


def _block(name: str, entries: list[str]) -> list[str]:
    return [f"    {name}: [", *(f"      {entry}" for entry in entries), "    ]"] if entries else []


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
