"""The running system of a data directory, asked over its own API as its administrator.

Found by DATA/run/up.json and DATA/clouds.yaml, which `chronova up` writes. Raises `Stop` with what to do when nothing
runs, when a name is not clear, and with the API's own sentence when it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import httpx
import yaml

from cli import rundir
from cli.errors import Stop

CLOUD = "chronova-admin"
TIMEOUT_SECONDS = 30.0
LEAST_OF_AN_ID = 4
_ID = re.compile(r"[\w-]+")


class System:
    """An authenticated connection to the API. Made by `connect`."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def get(self, path: str, **params: Any) -> Any:
        return self._body(self.http.get(path, params={k: v for k, v in params.items() if v is not None}))

    def post(self, path: str, body: Any = None) -> Any:
        return self._body(self.http.post(path, json=body))

    def server_id(self, name: str) -> str:
        """The id of a server given by id, by name, or by the beginning of its id; of a deleted one if none lives."""
        if not name.strip() or not name.isprintable():
            raise Stop(f"{name!r} names no server: give its name or id", 2)
        answer = self.http.get(f"/v1/servers/{name}") if _ID.fullmatch(name) else None
        if answer is not None and answer.status_code == 200:
            return name
        named = self.get("/v1/servers", name=f"^{re.escape(name)}$", limit=100)["servers"]
        found = [one["id"] for one in named] or self._begins_with(name) or self._deleted(name)
        if not found:
            raise Stop(f"there is no server {name!r}: `openstack server list` shows names and ids")
        if len(found) > 1:
            some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            raise Stop(f"{len(found)} servers are named {name!r}: give the id ({some})")
        return str(found[0])

    def _begins_with(self, start: str) -> list[str]:
        """Ids that begin so, among the newest thousand servers."""
        servers = self.get("/v1/servers", limit=1000)["servers"] if len(start) >= LEAST_OF_AN_ID else []
        return [str(one["id"]) for one in servers if one["id"].startswith(start)]

    def _deleted(self, name: str) -> list[str]:
        """The newest deleted server of a name."""
        servers = self.get("/v1/servers", deleted="true", name=f"^{re.escape(name)}$", limit=1)["servers"]
        for one in servers:
            click.echo(f"chronova: no server is named {name!r} now; {one['id']} is the newest that was", err=True)
        return [str(one["id"]) for one in servers]

    def _body(self, answer: httpx.Response) -> Any:
        if answer.status_code < 400:
            return answer.json()
        raise Stop(problem(answer), 2 if answer.status_code in (400, 422) else 1)


@contextmanager
def connect(data: Path) -> Iterator[System]:
    cloud = _cloud(data)
    note = rundir.running(data)
    base = str(note["base_url"]) if note else str(cloud["auth"]["auth_url"]).partition("/identity")[0]
    try:
        with httpx.Client(base_url=base, timeout=TIMEOUT_SECONDS) as http:
            http.headers["X-Auth-Token"] = _sign_in(http, cloud["auth"])
            yield System(http)
    except httpx.TransportError as error:
        raise Stop(f"nothing answers at {base}: start it with `chronova up --data {data}`") from error


def _cloud(data: Path) -> Any:
    try:
        return yaml.safe_load((data / "clouds.yaml").read_text())["clouds"][CLOUD]
    except FileNotFoundError:
        raise Stop(f"chronova never ran on {data}: start it with `chronova up --data {data}`") from None
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise Stop(
            f"{data / 'clouds.yaml'} has no cloud {CLOUD}: start `chronova up` to have it written anew"
        ) from error


def _sign_in(http: httpx.Client, auth: dict[str, str]) -> str:
    domain = {"id": auth.get("user_domain_id", "default")}
    user = {"name": auth["username"], "password": auth["password"], "domain": domain}
    project = {"name": auth["project_name"], "domain": {"id": auth.get("project_domain_id", "default")}}
    answer = http.post(
        "/identity/v3/auth/tokens",
        json={
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": project},
            }
        },
    )
    if answer.status_code >= 400:
        raise Stop(f"signing in failed: {problem(answer)}")
    return answer.headers["X-Subject-Token"]


def problem(answer: httpx.Response) -> str:
    """The sentence of a refusal, in whichever error style the API family has."""
    try:
        body = answer.json()
    except ValueError:
        return f"the API answered {answer.status_code}"
    if "detail" in body or "title" in body:
        words = [str(body[key]) for key in ("detail", "hint") if body.get(key)] or [str(body.get("title"))]
        return " ".join(word if word.endswith((".", "?", "!")) else f"{word}." for word in words)
    inner: Any = next(iter(body.values()), {})
    return str(inner.get("message", inner)) if isinstance(inner, dict) else str(inner)
