"""Refusals as compute API error bodies: `{"itemNotFound": {"code": 404, "message": "..."}}`."""

from __future__ import annotations

import msgspec

from api.compute.call import Reply
from api.errors import FAULT_NAMES, UNEXPECTED
from domain.errors import Invalid, NotFound, Rejected

GONE = "This resource is no longer available. No forwarding address is given."

_HEADERS = [(b"content-type", b"application/json; charset=UTF-8")]


class NoSuchPath(NotFound):
    """A path or method that exists at no microversion."""


def rejected(error: Rejected) -> Reply:
    if isinstance(error, NoSuchPath):
        return _no_such_path(error)
    return _fault(error.code, error.text)


def unexpected(error: Exception, request_id: str) -> Reply:
    """An answer for what nobody foresaw. The details are in the log under the request id, not in the answer."""
    return _fault(500, f"{UNEXPECTED}: {request_id}.\n{type(error)}")


def _fault(code: int, message: str) -> Reply:
    body = {FAULT_NAMES.get(code, "computeFault"): {"code": code, "message": message}}
    return Reply(code, msgspec.json.encode(body), list(_HEADERS))


def _no_such_path(error: NotFound) -> Reply:
    """Nova's router answers before its API does, in words of its own."""
    body = {"message": f"{error.text}<br /><br />\n\n\n", "code": "404 Not Found", "title": "Not Found"}
    return Reply(404, msgspec.json.encode(body), list(_HEADERS))


def no_such_path() -> NotFound:
    return NoSuchPath("The resource could not be found.")


def not_at_this_version() -> NotFound:
    return NotFound("The resource could not be found.")


def no_such_server(server_id: str) -> NotFound:
    return NotFound(f"Instance {server_id} could not be found.")


def never_existed(server_id: str) -> NotFound:
    """How Nova says it where it looks for the server's cell first, which a deleted server still has."""
    return NotFound(f"Instance {server_id} has no mapping to a cell.")


def smaller_than_min_disk(flavor_gb: int, min_disk_gb: int) -> Invalid:
    return Invalid(
        "Flavor's disk is smaller than the minimum size specified in image metadata. "
        f"Flavor disk is {flavor_gb << 30} bytes, minimum size is {min_disk_gb << 30} bytes.",
        hint="Choose a larger flavor.",
    )
