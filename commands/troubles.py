"""A host whose agent lives and can take no orders says why: it is disabled with that reason, until it can again.

As in Nova, the reason of what was not disabled by an operator begins with "AUTO: ". What an operator disabled stays so.
"""

from __future__ import annotations

from typing import Any

from domain.resources import Host

MARK = "AUTO: "


def change_for(host: Host, trouble: str) -> dict[str, Any]:
    """The fields of the host that change when its agent tells this (nothing: all is well)."""
    by_itself = host.disabled and (host.disabled_reason or "").startswith(MARK)
    if trouble and (by_itself or not host.disabled) and host.disabled_reason != MARK + trouble:
        return {"disabled": True, "disabled_reason": MARK + trouble}
    if not trouble and by_itself:
        return {"disabled": False, "disabled_reason": None}
    return {}
