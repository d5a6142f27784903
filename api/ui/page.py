"""What every page shares: who is signed in, the template environment, safe headers, and errors as pages.

A visitor without a valid session is sent to the login page and comes back afterwards. A refusal becomes a page that
says what is wrong, what to do next, and the request id.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.errors import HANDLED, as_rejected, note, title
from api.http import refuse_nulls, services
from api.lag import lag_of
from api.middleware import TOKEN_COOKIE
from api.ui import words
from api.v1.scope import whole_number
from domain.errors import Forbidden, Rejected
from eventlog.errors import LogError

if TYPE_CHECKING:
    from api.auth import Caller

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= words.FILTERS
_templates.tests["in_operation"] = lambda name: name.startswith("operation.")

WAIT_SECONDS = 2.0
MOST_FIELDS = 50
Handler = Callable[[Request], Awaitable[Response]]


def signed_in(request: Request) -> Caller | None:
    found: Caller | None = request.scope["state"].get("caller")
    return found


def page(handler: Handler) -> Handler:
    """A page for people who are signed in. With `?after=<position>` it waits, bounded, for the read model."""

    @wraps(handler)
    async def wrapped(request: Request) -> Response:
        if signed_in(request) is None:
            here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            target = "" if request.method != "GET" else f"?next={quote(here, safe='')}"
            return RedirectResponse(f"/ui/login{target}", status_code=303)
        try:
            after = whole_number(request, "after", 0, most=1 << 50)
            if after > services(request).read.position:
                with contextlib.suppress(LogError):  # a page without the log says so
                    there_is = await services(request).log.last_position()
                    await services(request).read.wait_for(min(after, there_is), WAIT_SECONDS)
            request.scope["state"]["lag"] = await lag_of(services(request), datetime.now(UTC))
            return await handler(request)
        except HANDLED as error:
            refusal = as_rejected(error)
            if refusal is None:
                raise
            return problem(request, refusal)

    return wrapped


def render(
    request: Request, template: str, code: int = 200, headers: dict[str, str] = HEADERS, **values: Any
) -> Response:
    """A page from a template. Every page knows the caller, the time, and how far the read model is or is behind."""
    who = signed_in(request)
    shared = {
        "reader": who,
        "csrf": csrf_of(who.token) if who else "",
        "now": datetime.now(UTC),
        "path": request.url.path,
        "position": services(request).read.position,
        "lag": request.scope["state"].get("lag"),
        "request_id": request.scope["state"]["request_id"],
    }
    return HTMLResponse(_templates.get_template(template).render(shared | values), status_code=code, headers=headers)


def problem(request: Request, refusal: Rejected) -> Response:
    note(request.scope, refusal)
    # What was posted is not posted again: its page is where to look whether it happened.
    path = request.url.path if request.method == "GET" else request.url.path.rpartition("/")[0]
    retry = path + (f"?{request.url.query}" if request.method == "GET" and request.url.query else "")
    # What the address asked of the page was wrong: the page itself is still there.
    afresh = path if refusal.code == 400 and retry != path else None
    values: dict[str, Any] = {"refusal": refusal, "title": title(refusal.code), "retry": retry, "afresh": afresh}
    return render(request, "problem.html", refusal.code, **values)


def csrf_of(token: str) -> str:
    """What a form has to carry: derived from the session, which no other site can read."""
    return hashlib.sha256(f"chronova form {token}".encode()).hexdigest()[:32]


async def form_fields(request: Request) -> dict[str, str]:
    """The fields of a form. Raises 400 for what is no form, or holds a null character."""
    form = await request.form(max_files=0, max_fields=MOST_FIELDS)
    fields = {key: value for key, value in form.items() if isinstance(value, str)}
    refuse_nulls(fields)
    return fields


async def checked_form(request: Request) -> dict[str, str]:
    """The fields of a form that this viewer made for this session. Raises 403 for any other."""
    who = signed_in(request)
    fields = await form_fields(request)
    if who is None or not hmac.compare_digest(fields.pop("csrf", ""), csrf_of(who.token)):
        raise Forbidden("The form is not one of this session", hint="Reload the page and try again.", reason="csrf")
    return fields


def must_be_same_origin(request: Request) -> None:
    """Refuse a form that another site sends in the visitor's name."""
    origin = request.headers.get("origin")
    if origin not in (None, "null") and urlsplit(str(origin)).netloc != request.headers.get("host"):
        raise Forbidden("The form comes from another site", hint="Sign in at the address of this viewer.")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("The form comes from another site", hint="Sign in at the address of this viewer.")


def local_path(text: str) -> str:
    """Where to go after signing in: a page of this viewer, whatever the address says."""
    plain = text.startswith("/ui/") and "\\" not in text and not any(ord(letter) < 32 for letter in text)
    return text if plain and not text.startswith("/ui/log") else "/ui/"


__all__ = [
    "HEADERS",
    "TOKEN_COOKIE",
    "checked_form",
    "form_fields",
    "local_path",
    "page",
    "problem",
    "render",
    "signed_in",
]
