"""Who may do what: the role rules that command and API policies name. Scope is the caller's project."""

from __future__ import annotations

from collections.abc import Collection

# A role contains every role below it (as Keystone's implied roles).
IMPLIED: dict[str, frozenset[str]] = {
    "admin": frozenset({"admin", "manager", "member", "reader"}),
    "manager": frozenset({"manager", "member", "reader"}),
    "member": frozenset({"member", "reader"}),
    "reader": frozenset({"reader"}),
    "service": frozenset({"service"}),
}

_PROJECT_RULES = {
    "PROJECT_READER_OR_ADMIN": "reader",
    "PROJECT_MEMBER_OR_ADMIN": "member",
    "PROJECT_MANAGER_OR_ADMIN": "manager",
}


def effective_roles(roles: Collection[str]) -> frozenset[str]:
    """The roles held and everything they contain."""
    return frozenset().union(*(IMPLIED.get(role, frozenset({role})) for role in roles)) if roles else frozenset()


def is_admin(roles: Collection[str]) -> bool:
    return "admin" in roles


def allowed(rule: str, roles: Collection[str], caller_project: str | None, target_project: str | None) -> bool:
    """Whether a caller passes a policy default such as `PROJECT_MEMBER_OR_ADMIN`.

    Raises `KeyError` for a rule that does not exist: a policy that nobody wrote must not grant anything.
    """
    if rule in ("ANY", "removed"):  # what is gone is gone for everybody: the command itself says so
        return True
    if "admin" in roles:
        return True
    if rule == "ADMIN":
        return False
    if rule == "SERVICE_OR_ADMIN":
        return "service" in roles
    needed = _PROJECT_RULES[rule]
    return needed in effective_roles(roles) and caller_project is not None and caller_project == target_project
