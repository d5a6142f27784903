"""Refusals as compute API error bodies: `{"itemNotFound": {"code": 404, "message": "..."}}`."""

from __future__ import annotations

import msgspec

from api.compute.call import Reply
from api.errors import FAULT_NAMES, UNEXPECTED
from domain.errors import NotFound, Rejected

GONE = "This resource is no longer available. No forwarding address is given."

_HEADERS = [(b"content-type", b"application/json; charset=UTF-8")]


def rejected(error: Rejected) -> Reply:
    return _fault(error.code, error.text)


def unexpected(error: Exception, request_id: str) -> Reply:
    """An answer for what nobody foresaw. The details are in the log under the request id, not in the answer."""
    return _fault(500, f"{UNEXPECTED}: {request_id}.\n{type(error)}")


def _fault(code: int, message: str) -> Reply:
    body = {FAULT_NAMES.get(code, "computeFault"): {"code": code, "message": message}}
    return Reply(code, msgspec.json.encode(body), list(_HEADERS))


def no_such_resource() -> NotFound:
    """For a path or method that does not exist, or not at this microversion."""
    return NotFound("The resource could not be found.")


def no_such_server(server_id: str) -> NotFound:
    return NotFound(f"Instance {server_id} could not be found.")
