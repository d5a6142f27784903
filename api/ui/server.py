"""One server: what it is doing, what happened to it, who did it, and why it failed.

The page is complete as it is; a script fetches it again when the log grew (`?after=<position>` waits, bounded, until
the read model is that far) and puts the changed parts in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from api.console.grants import has_consoles
from api.http import caller, services
from api.ui.buttons import buttons
from api.ui.diagram import diagram
from api.ui.lanes import timeline
from api.ui.page import page, render
from api.v1.document import legal_now, possible
from api.v1.reasons import evidence, reasons
from api.v1.scope import rejections_of, visible_server
from api.v1.story import Story, story
from domain.errors import Invalid, Rejected
from domain.machine import MACHINE
from domain.server import Server
from domain.states import status
from projections.query import MarkerNotFound
from projections.rows import RejectionRow

PAGE = 25
REJECTIONS = 25
LOG_SECONDS = 3.0  # after that the page shows what the read model knows


@dataclass(frozen=True)
class Since:
    """When the state that a server is in began."""

    at: datetime | None
    why: str


@page
async def server(request: Request) -> Response:
    """Show one server and its history"""
    return await show(request, await visible_server(request))


async def show(request: Request, found: Server, refused: tuple[str, Rejected] | None = None) -> Response:
    """The page; `refused` is the command that was just given in vain."""
    at, who, now = services(request), caller(request), datetime.now(UTC)
    marker = request.query_params.get("marker")
    try:
        told = await story(at, who, found.id, limit=PAGE, marker=marker, log_seconds=LOG_SECONDS)
    except MarkerNotFound as error:
        raise Invalid(f"{marker} is no request of this server", hint="Its history starts on the first page.") from error
    found = await at.read.server(found.id) or found
    newest = [chapter.action for chapter in told.chapters]
    looked_at = newest if marker is None else await at.read.actions(found.id, limit=PAGE, steps=True)
    rejections = await rejections_of(at, who, found, REJECTIONS)
    legal = legal_now(at, found, who)
    owner = await at.read.resource("project", found.project_id)
    code = refused[1].code if refused else 200
    return render(
        request,
        "server.html",
        code,
        server=found,
        status=status(found.vm_state, found.task_state),
        since=_since(found, looked_at),
        buttons=buttons(legal),
        consoles=possible(at, "remote-console", found, who) and await has_consoles(at, found),
        key=uuid4(),
        legal=legal,
        refused=refused,
        chapters=told.chapters,
        whole=told.whole,
        led_to=told.led_to,
        rejections=_beside(told, rejections, marker),
        reasons=reasons(found, looked_at, rejections, legal),
        evidence_of=evidence,
        timeline=timeline(newest, now),
        diagram=diagram(found.vm_state, walked(told), legal),
        titles={command: MACHINE.rule(command).title for command in legal},
        next_marker=told.next_marker,
        first_page=marker is None,
        project_name=owner.name if owner is not None else found.project_id,
    )


def _since(found: Server, actions: list[Any]) -> Since:
    """The state began when the newest action that ended did; a state in progress, when its action began."""
    if found.operation is not None:
        return Since(found.operation.started_at, found.operation.command)
    ended = next((one for one in actions if one.finish_time is not None), None)
    return Since(ended.finish_time, ended.command) if ended else Since(found.updated_at, "")


def _beside(told: Story, rejections: list[RejectionRow], marker: str | None) -> list[RejectionRow]:
    """The refusals that belong on this page: those newer than the oldest action on it."""
    oldest = min((chapter.action.start_time for chapter in told.chapters), default=None)
    if told.next_marker is None or oldest is None:
        return rejections if marker is None else []
    return [one for one in rejections if one.at >= oldest] if marker is None else []


def walked(told: Story) -> list[str]:
    """The vm_states that the events of this page led through, oldest first."""
    entries = sorted(
        (entry for chapter in told.chapters for entry in chapter.entries), key=lambda one: (one.position, one.index)
    )
    path: list[str] = []
    for entry in entries:
        vm_state = entry.changed.get("vm_state")
        if vm_state and (not path or path[-1] != vm_state):
            path.append(vm_state)
    return path
