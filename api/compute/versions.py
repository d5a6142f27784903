"""Microversions: which are served, how a request asks for one, and the version documents.

A request names a version in `OpenStack-API-Version: compute 2.N` or in the older `X-OpenStack-Nova-API-Version: 2.N`
(the first wins); `latest` is the newest; none is 2.1. The version used is echoed in both headers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from domain.errors import Invalid, Rejected

MIN_VERSION = 1
MAX_VERSION = 96

_NEW = b"openstack-api-version"
_OLD = b"x-openstack-nova-api-version"


class NotAcceptable(Rejected):
    code = 406
    reason = "microversion"


@lru_cache(maxsize=512)
def parse(text: str) -> int:
    """The minor number of "2.N" or "latest". Raises `Invalid` for another form, `NotAcceptable` outside the range."""
    if text == "latest":
        return MAX_VERSION
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()) or (
        (major != "0" and major.startswith("0")) or (minor != "0" and minor.startswith("0"))
    ):
        raise Invalid(
            f"API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum.",
            reason="microversion",
        )
    if major != "2" or not MIN_VERSION <= int(minor) <= MAX_VERSION:
        raise NotAcceptable(
            f"Version {text} is not supported by the API. Minimum is 2.{MIN_VERSION} and maximum is 2.{MAX_VERSION}."
        )
    return int(minor)


def negotiate(headers: list[tuple[bytes, bytes]]) -> int:
    """The version that a request asks for. The newer header wins over the older one, whatever their order."""
    old: bytes | None = None
    for name, value in headers:
        if name == _NEW:
            wanted = _of_compute(value)
            if wanted is not None:
                return parse(wanted)
        elif name == _OLD:
            old = value
    return MIN_VERSION if old is None else parse(old.decode("latin-1").strip().lower())


@lru_cache(maxsize=512)
def _of_compute(value: bytes) -> str | None:
    """The version for compute in a header that may name several services."""
    for part in value.decode("latin-1").lower().split(","):
        service, _, version = part.strip().partition(" ")
        if service == "compute":
            return version.strip()
    return None


@lru_cache(maxsize=MAX_VERSION + 1)
def echo(version: int) -> list[tuple[bytes, bytes]]:
    """The headers that say which version answered."""
    text = f"2.{version}".encode()
    return [
        (_NEW, b"compute " + text),
        (_OLD, text),
        (b"vary", b"OpenStack-API-Version, X-OpenStack-Nova-API-Version"),
    ]


def _entry(base: str) -> dict[str, Any]:
    return {
        "id": "v2.1",
        "status": "CURRENT",
        "version": f"2.{MAX_VERSION}",
        "min_version": f"2.{MIN_VERSION}",
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": f"{base}/v2.1/"}],
    }


def all_versions(base: str) -> dict[str, Any]:
    return {"versions": [_entry(base)]}


def one_version(base: str) -> dict[str, Any]:
    entry = _entry(base)
    entry["links"] = [
        *entry["links"],
        {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
    ]
    entry["media-types"] = [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]
    return {"version": entry}
