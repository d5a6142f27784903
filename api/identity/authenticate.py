"""From the body of `POST auth/tokens` to claims: who signs in, by which method, for which scope.

Methods are password, token and application_credential; scopes are project (id, or name and domain), domain, system and
unscoped. Every failure to prove who one is reads the same, whatever was wrong, and takes about the same time.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from starlette.requests import Request

from api.auth import SYSTEM, Claims, password_stamp
from api.errors import Unauthorized
from api.http import services
from api.identity.access import DEFAULT_DOMAIN, DOMAIN
from api.identity.passwords import NOBODY, verified
from api.listing import living
from api.shapes import mapping, strings, text
from domain.errors import Invalid
from domain.resources import ApplicationCredential, Project, User

_WRONG = "The request you have made requires authentication."
_HINT = "User, password or credential is wrong, or the user is disabled"


class _Proof:
    """Who signed in, and what the method itself fixes."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.credential: ApplicationCredential | None = None
        self.expires_at: float | None = None
        self.methods: tuple[str, ...] = ()
        self.previous: Claims | None = None


async def authenticate(request: Request, body: dict[str, Any]) -> Claims:
    """The claims of a new token. Raises 400 for a malformed body, 401 for everything that proves nothing."""
    auth = mapping(body, "auth")
    identity = mapping(auth, "identity")
    methods = strings(identity, "methods")
    if not methods:
        raise Invalid("auth.identity.methods is empty")
    proof: _Proof | None = None
    for method in methods:
        prove = _METHODS.get(method)
        if prove is None:
            raise Unauthorized(
                f"Authentication method {method} is not offered", hint=f"Use one of {', '.join(_METHODS)}"
            )
        found = await prove(request, mapping(identity, method))
        if proof is not None and proof.user.id != found.user.id:
            raise Unauthorized(_WRONG, hint="The methods name different users")
        proof = found
    assert proof is not None, "there is at least one method"
    return await _scoped(request, proof, tuple(methods), auth.get("scope"))


async def _password(request: Request, body: dict[str, Any]) -> _Proof:
    given = mapping(body, "user")
    user = await _user(request, given)
    right = await verified(text(given, "password", longest=1024), user.password_hash if user else NOBODY)
    if user is None or not right or not user.enabled:
        raise Unauthorized(_WRONG, hint=_HINT)
    return _Proof(user)


async def _token(request: Request, body: dict[str, Any]) -> _Proof:
    known = await services(request).tokens.check(text(body, "id", longest=4096))
    if known is None:
        raise Unauthorized(_WRONG, hint="The token has expired or was revoked")
    if known.claims.credential_id:
        raise Unauthorized(_WRONG, hint="The token of an application credential cannot be used to get another one")
    user = await services(request).read.resource("user", known.user_id)
    if not isinstance(user, User):
        raise Unauthorized(_WRONG, hint=_HINT)
    proof = _Proof(user)
    proof.expires_at = known.claims.expires_at
    proof.previous = known.claims
    return proof


async def _application_credential(request: Request, body: dict[str, Any]) -> _Proof:
    credential = await _credential(request, body)
    right = await verified(text(body, "secret", longest=1024), credential.secret_hash if credential else NOBODY)
    user = await services(request).read.resource("user", credential.user_id) if credential else None
    if credential is None or not right or not isinstance(user, User) or user.deleted or not user.enabled:
        raise Unauthorized(_WRONG, hint=_HINT)
    if credential.expires_at is not None and credential.expires_at.timestamp() <= time.time():
        raise Unauthorized(_WRONG, hint="The application credential has expired")
    proof = _Proof(user)
    proof.credential = credential
    if credential.expires_at is not None:
        proof.expires_at = credential.expires_at.timestamp()
    return proof


_METHODS = {"password": _password, "token": _token, "application_credential": _application_credential}


async def _credential(request: Request, body: dict[str, Any]) -> ApplicationCredential | None:
    if body.get("id"):
        found = await services(request).read.resource("application_credential", text(body, "id"))
        return found if isinstance(found, ApplicationCredential) and not found.deleted else None
    user = await _user(request, mapping(body, "user"))
    if user is None:
        return None
    held = await living(request, "application_credential", where={"user_id": user.id}, name=text(body, "name"))
    return next((one for one in held if isinstance(one, ApplicationCredential)), None)


async def _user(request: Request, given: dict[str, Any]) -> User | None:
    if given.get("id"):
        found = await services(request).read.resource("user", text(given, "id"))
        return found if isinstance(found, User) and not found.deleted else None
    named = await living(request, "user", name=text(given, "name"))
    if not _is_default(mapping(given, "domain", {})):
        return None
    return next((one for one in named if isinstance(one, User)), None)


def _is_default(domain: dict[str, Any]) -> bool:
    return bool(
        domain.get("id", DEFAULT_DOMAIN) == DEFAULT_DOMAIN and domain.get("name", DOMAIN["name"]) == DOMAIN["name"]
    )


async def _scoped(request: Request, proof: _Proof, methods: tuple[str, ...], scope: Any) -> Claims:
    kind, target = await _scope(request, proof, scope)
    now = time.time()
    longest = now + services(request).settings.token_seconds
    previous = proof.previous.methods if proof.previous else ()
    claims = Claims(
        user_id=proof.user.id,
        issued_at=now,
        expires_at=min(longest, proof.expires_at or longest),
        methods=tuple(dict.fromkeys((*previous, *methods))),
        audit_id=secrets.token_urlsafe(16),
        stamp=password_stamp(proof.user),
        scope=kind,
        target_id=target,
        credential_id=proof.credential.id if proof.credential else "",
    )
    if await services(request).tokens.resolve(claims) is None:
        raise Unauthorized(
            f"User {proof.user.id} has no access to {kind} {target}".rstrip(), hint="Ask an admin for a role there"
        )
    return claims


async def _scope(request: Request, proof: _Proof, scope: Any) -> tuple[str, str]:
    """Kind and target of the scope asked for; without one, the project that the user or credential defaults to."""
    if proof.credential is not None:
        return "project", proof.credential.project_id or ""
    if scope == "unscoped" or (isinstance(scope, dict) and "unscoped" in scope):
        return "unscoped", ""
    if scope is None:
        default = proof.user.default_project_id
        if default and await services(request).tokens.roles_of(proof.user.id, "project", default):
            return "project", default
        return "unscoped", ""
    if not isinstance(scope, dict):
        raise Invalid("auth.scope has to be an object")
    if "project" in scope:
        return "project", await _project(request, mapping(scope, "project"))
    if "domain" in scope:
        if not _is_default(mapping(scope, "domain")):
            raise Unauthorized(_WRONG, hint="There is only the domain Default")
        return "domain", DEFAULT_DOMAIN
    if "system" in scope:
        return "system", SYSTEM
    raise Invalid("auth.scope has to name a project, a domain or the system")


async def _project(request: Request, given: dict[str, Any]) -> str:
    if given.get("id"):
        return text(given, "id")
    wanted = text(given, "name")
    named = await living(request, "project", name=wanted)
    found = next((one for one in named if isinstance(one, Project)), None)
    if found is None or not _is_default(mapping(given, "domain", {})):
        raise Unauthorized(f"Could not find project {wanted}", hint="Check its name and domain")
    return found.id
