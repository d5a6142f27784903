"""One mapping from a refusal to the error body of each API family.

The family is decided by the first part of the path, so one handler serves every API. A refusal carries its status,
its sentence and what to do next; families differ only in where they put them. What is not a refusal is a defect: it is
logged with the request id and answered 500 without its traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from api.http import Json
from domain.errors import Conflict, Invalid, NotFound, Rejected, TooLarge, Unavailable
from domain.resources import InvalidResource
from eventlog.errors import CommitTooLarge, LogUnavailable
from eventlog.errors import Conflict as LogConflict
from projections.database import ReadModelUnavailable
from projections.query import InvalidQuery, MarkerNotFound

FAULT_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}
NEUTRON_TYPES = {
    400: "HTTPBadRequest",
    401: "HTTPUnauthorized",
    403: "PolicyNotAuthorized",
    404: "HTTPNotFound",
    405: "HTTPMethodNotAllowed",
    409: "Conflict",
    410: "HTTPGone",
    412: "HTTPPreconditionFailed",
    413: "HTTPRequestEntityTooLarge",
    415: "HTTPUnsupportedMediaType",
    422: "HTTPUnprocessableEntity",
    429: "HTTPTooManyRequests",
    501: "HTTPNotImplemented",
    503: "ServiceUnavailable",
}
UNEXPECTED = (
    "Unexpected API Error: the request was not carried out, or its outcome is unknown. "
    "Look for this request id in the API log"
)


class Unauthorized(Rejected):
    """The caller did not say, or could not prove, who it is."""

    code = 401
    reason = "unauthorized"


class NeutronError(Rejected):
    """A refusal of the network API, whose clients tell refusals apart by type name."""

    def __init__(self, type_: str, code: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, code=code, reason=type_)
        self.type = type_


def title(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Error"


def _identity(error: Rejected, request_id: str) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.text, "title": title(error.code)}}


def _fault(error: Rejected, request_id: str) -> dict[str, Any]:
    other = "computeFault" if error.code >= 500 or error.code in (406, 410) else "badRequest"
    name = FAULT_NAMES.get(error.code, other)
    return {name: {"code": error.code, "message": error.text}}


def _neutron(error: Rejected, request_id: str) -> dict[str, Any]:
    other = "HTTPInternalServerError" if error.code >= 500 else "HTTPBadRequest"
    type_ = error.type if isinstance(error, NeutronError) else NEUTRON_TYPES.get(error.code, other)
    return {"NeutronError": {"type": type_, "message": error.text, "detail": ""}}


def _placement(error: Rejected, request_id: str) -> dict[str, Any]:
    code = {"version": "placement.concurrent_update", "conflict": "placement.concurrent_update"}
    one = {
        "status": error.code,
        "title": title(error.code),
        "detail": error.text,
        "request_id": request_id,
        "code": code.get(error.reason, "placement.undefined_code"),
    }
    return {"errors": [one]}


def _problem(error: Rejected, request_id: str) -> dict[str, Any]:
    return {
        "type": f"urn:chronova:problem:{error.reason}",
        "title": title(error.code),
        "status": error.code,
        "detail": error.message,
        "reason": error.reason,
        "hint": error.advice,
        "request_id": request_id,
    }


_FAMILIES: dict[str, Callable[[Rejected, str], dict[str, Any]]] = {
    "compute": _fault,
    "volume": _fault,
    "identity": _identity,
    "image": _identity,
    "network": _neutron,
    "placement": _placement,
}


def family_of(path: str) -> str:
    """The API that a path belongs to: its first part."""
    return path[1 : path.find("/", 1)] if "/" in path[1:] else path[1:]


def note(scope: Scope, error: Rejected) -> None:
    """Leave word of the refusal that a request is answered with: `api.refusals` records it."""
    scope.setdefault("state", {})["refused"] = error


def answered_with(scope: Scope) -> dict[str, str]:
    """The headers that every answer to a request has from here on, refusals included."""
    headers: dict[str, str] = scope.setdefault("state", {}).setdefault("answered_with", {})
    return headers


def render(scope: Scope, error: Rejected) -> Response:
    """The response for a refusal, in the form of the API that the request was for."""
    note(scope, error)
    request_id = scope.get("state", {}).get("request_id", "")
    form = _FAMILIES.get(family_of(scope["path"]), _problem)
    response = Json(form(error, request_id), status_code=error.code, headers=answered_with(scope))
    if form is _problem:
        response.headers["content-type"] = "application/problem+json"
    if error.code == 503:
        response.headers["retry-after"] = "1"
    return response


def as_rejected(error: Exception) -> Rejected | None:
    """An error of a lower room as the refusal that a caller deserves; None for a defect."""
    if isinstance(error, Rejected):
        return error
    if isinstance(error, HTTPException):
        return _of_status(error.status_code, error.detail)
    if isinstance(error, InvalidResource | InvalidQuery | MarkerNotFound):
        return Invalid(str(error))
    if isinstance(error, ClientDisconnect):
        return Invalid("The connection was closed before the body was complete", reason="incomplete")
    if isinstance(error, ReadModelUnavailable):
        return Unavailable(str(error), reason="read_model_unavailable")
    if isinstance(error, CommitTooLarge):
        return TooLarge(str(error))
    if isinstance(error, LogConflict):
        return Conflict(str(error), hint="Send the request again", reason="concurrent_update")
    if isinstance(error, LogUnavailable):
        hint = (
            "It is not known whether the change was made: look before you repeat it, or repeat it with the same "
            "Idempotency-Key"
            if error.ambiguous
            else "Nothing was changed; send it again in a moment"
        )
        return Unavailable("The log cannot be reached", hint=hint, reason="log_unavailable")
    return None


def _of_status(code: int, detail: str) -> Rejected:
    if code == 404:
        return NotFound("The resource could not be found", hint="Check the path against GET /openapi.json")
    if code == 405:
        return Rejected("The method is not allowed for this resource", code=405, reason="method_not_allowed")
    return Rejected(detail, code=code, reason=title(code).lower().replace(" ", "_"))


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for everything that `as_rejected` knows."""
    refusal = as_rejected(error)
    if refusal is None:
        raise error
    response = render(request.scope, refusal)
    headers = getattr(error, "headers", None)
    if headers:
        response.headers.update(headers)
    return response


HANDLED: tuple[type[Exception], ...] = (
    Rejected,
    HTTPException,
    InvalidResource,
    InvalidQuery,
    MarkerNotFound,
    ReadModelUnavailable,
    ClientDisconnect,
    CommitTooLarge,
    LogConflict,
    LogUnavailable,
)
