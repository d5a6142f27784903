"""Tokens: signed, stateless, and checked against what is true of their user now.

A token is a Fernet message (encrypted and signed with a key of the data directory) that says who signed in, how, for
which scope and until when. It holds no roles: those are read from the read model (or, when that is behind, from the
log) when the token is first seen and again every `recheck` seconds, so a disabled user, a changed password, a lost role
or a revoked token ends it, at once in the process that made the change and within that time in every other. In between
a check is one look into a dict.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from domain.policy import effective_roles, is_admin
from domain.resources import ApplicationCredential, Assignment, Project, Resource, Role, User
from eventlog.envelope import Actor
from eventlog.errors import LogError

if TYPE_CHECKING:
    from projections.read_model import ReadModel

CACHED_TOKENS = 4096
LONGEST_TOKEN = 2048
SYSTEM = "all"

Load = Callable[[str, str], Awaitable[Resource | None]]  # (kind, id) -> what the log has, null if it was deleted


class Claims(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token says. Times are seconds since the epoch; `stamp` changes with the user's password."""

    user_id: str
    issued_at: float
    expires_at: float
    methods: tuple[str, ...]
    audit_id: str
    stamp: str
    scope: str = "unscoped"  # unscoped | project | domain | system
    target_id: str = ""  # project or domain
    credential_id: str = ""


@dataclass(frozen=True)
class Caller:
    """Who sent a request, with roles expanded (an admin holds manager, member and reader too)."""

    actor: Actor
    token: str
    is_admin: bool
    expires_at: datetime
    issued_at: datetime
    claims: Claims

    @property
    def user_id(self) -> str:
        return self.actor.user_id

    @property
    def project_id(self) -> str | None:
        return self.actor.project_id

    @property
    def roles(self) -> tuple[str, ...]:
        return self.actor.roles


def assignment_id(user_id: str, scope: str, target_id: str) -> str:
    """The id of the aggregate that holds a user's roles in a project or domain, or system-wide."""
    return str(uuid5(NAMESPACE_URL, f"chronova:assignment:{user_id}:{scope}:{target_id}"))


def revocation_id(audit_id: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"chronova:revocation:{audit_id}"))


def password_stamp(user: User) -> str:
    """Ties a token to the password it was got with: another password ends it."""
    return hashlib.sha256(user.password_hash.encode()).hexdigest()[:16]


def load_keys(data_dir: Path) -> MultiFernet:
    """The token keys of DATA/keys/tokens, made on first use (0600). The first line signs, the others still verify."""
    path = data_dir / "keys" / "tokens"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        fresh = path.with_name(f"tokens.{secrets.token_hex(4)}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # of two processes that start at once, the first one's key stays
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return MultiFernet([Fernet(line) for line in path.read_bytes().split()])


def _is_canonical(token: str) -> bool:
    """Whether a token is written exactly as it was issued: decoders of base64 overlook what follows its end."""
    try:
        return urlsafe_b64encode(urlsafe_b64decode(token)).decode() == token
    except ValueError:
        return False


class Tokens:
    """Issues tokens and turns a token into its caller."""

    def __init__(
        self,
        keys: MultiFernet,
        read: ReadModel,
        *,
        load: Load | None = None,
        recheck: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._read = read
        self._load = load
        self._recheck = recheck
        self._clock = clock
        self._cache: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    def issue(self, claims: Claims) -> str:
        return self._keys.encrypt(msgspec.msgpack.encode(claims)).decode()

    def cached(self, token: str) -> Caller | None:
        """The caller of a token that was checked a moment ago; None if it has to be checked."""
        known = self._cache.get(token)
        if known is not None and self._clock() < known[0]:
            return known[1]
        return None

    async def check(self, token: str) -> Caller | None:
        """The caller of a valid token; None for anything else."""
        known = self.cached(token)
        if known is not None:
            return known
        self._cache.pop(token, None)
        claims = self.claims(token)
        found = await self.resolve(claims, token) if claims is not None else None
        if claims is None or found is None:
            return None
        self._cache[token] = (min(self._clock() + self._recheck, claims.expires_at), found)
        if len(self._cache) > CACHED_TOKENS:
            self._cache.popitem(last=False)
        return found

    def claims(self, token: str) -> Claims | None:
        """What a token says, if its signature is right and it has not expired."""
        if not 0 < len(token) <= LONGEST_TOKEN or not _is_canonical(token):
            return None
        try:
            claims = msgspec.msgpack.decode(self._keys.decrypt(token.encode()), type=Claims)
        except (InvalidToken, msgspec.DecodeError, UnicodeEncodeError):
            return None
        return claims if claims.expires_at > self._clock() else None

    def forget(self) -> None:
        """Check every token anew: a user, project, role or credential was changed in this process."""
        self._cache.clear()

    async def resolve(self, claims: Claims, token: str = "") -> Caller | None:
        """The caller as of now, or None if the user, the scope or the roles are gone."""
        user = await self._now("user", claims.user_id)
        if not isinstance(user, User) or user.deleted or not user.enabled or password_stamp(user) != claims.stamp:
            return None
        revoked = await self._now("token_revocation", revocation_id(claims.audit_id))
        if revoked is not None and not revoked.deleted:
            return None
        project: Project | None = None
        if claims.scope == "project":
            held = await self._now("project", claims.target_id)
            if not isinstance(held, Project) or held.deleted or not held.enabled:
                return None
            project = held
        roles = await self.roles_of(claims.user_id, claims.scope, claims.target_id)
        if claims.credential_id:
            roles = await self._of_credential(claims.credential_id, roles)
        if not roles and claims.scope != "unscoped":
            return None
        actor = Actor(
            user_id=user.id,
            user_name=user.name,
            project_id=project.id if project else None,
            project_name=project.name if project else "",
            roles=tuple(sorted(effective_roles(roles))),
        )
        return Caller(
            actor=actor,
            token=token,
            is_admin=is_admin(roles),
            expires_at=datetime.fromtimestamp(claims.expires_at, UTC),
            issued_at=datetime.fromtimestamp(claims.issued_at, UTC),
            claims=claims,
        )

    async def _now(self, kind: str, id: str) -> Resource | None:
        """The resource; from the log where the read model is known to lack what was answered already."""
        found = await self._read.resource(kind, id)
        if self._read.is_behind and self._load is not None:
            with contextlib.suppress(LogError):  # it is away as well: nobody knows better
                found = await self._load(kind, id)
        return found

    async def roles_of(self, user_id: str, scope: str, target_id: str) -> tuple[str, ...]:
        """The names of the roles assigned to a user in a scope."""
        if scope == "unscoped":
            return ()
        held = await self._now("assignment", assignment_id(user_id, scope, target_id or SYSTEM))
        if not isinstance(held, Assignment) or held.deleted:
            return ()
        found = [await self._now("role", role_id) for role_id in held.roles]
        return tuple(role.name for role in found if isinstance(role, Role) and not role.deleted)

    async def _of_credential(self, credential_id: str, roles: tuple[str, ...]) -> tuple[str, ...]:
        """The roles that an application credential carries and its user still has; none if it is gone or expired."""
        held = await self._now("application_credential", credential_id)
        if not isinstance(held, ApplicationCredential) or held.deleted:
            return ()
        if held.expires_at is not None and held.expires_at.timestamp() <= self._clock():
            return ()
        return tuple(sorted(set(held.roles) & effective_roles(roles)))


def seen_from(caller: Caller, remote: str) -> Caller:
    """The same caller, with the address that this request came from."""
    if caller.actor.remote == remote:
        return caller
    return replace(caller, actor=msgspec.structs.replace(caller.actor, remote=remote))
