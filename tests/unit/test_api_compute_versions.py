"""Which microversion a request gets."""

from __future__ import annotations

import pytest

from api.compute import versions
from api.compute.versions import NotAcceptable, negotiate
from domain.errors import Invalid

NEW = b"openstack-api-version"
OLD = b"x-openstack-nova-api-version"


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([], 1),
        ([(NEW, b"compute 2.96")], 96),
        ([(OLD, b"2.37")], 37),
        ([(NEW, b"compute latest")], versions.MAX_VERSION),
        ([(OLD, b"latest")], versions.MAX_VERSION),
        ([(NEW, b"volume 3.1, compute 2.79")], 79),
        ([(NEW, b"volume 3.1")], 1),
        ([(OLD, b"2.1"), (NEW, b"compute 2.60")], 60),
        ([(NEW, b"Compute 2.60"), (OLD, b"2.1")], 60),
    ],
)
def test_the_version_asked_for(headers: list[tuple[bytes, bytes]], version: int) -> None:
    assert negotiate(headers) == version


@pytest.mark.parametrize("text", ["2.97", "3.1", "1.5", "2.0", "2.100"])
def test_outside_the_range_is_406_and_names_the_range(text: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        negotiate([(NEW, f"compute {text}".encode())])
    assert caught.value.code == 406
    assert caught.value.text == (
        f"Version {text} is not supported by the API. Minimum is 2.1 and maximum is 2.{versions.MAX_VERSION}."
    )


@pytest.mark.parametrize("text", ["2", "two", "2.x", "2.01", "", "2.1.1"])
def test_a_malformed_version_is_400(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        versions.parse(text)
    assert caught.value.text == (
        f"API Version String {text} is of invalid format. Must be of format MajorNum.MinorNum."
    )


def test_the_answer_names_its_version_in_both_headers() -> None:
    echoed = dict(versions.echo(53))
    assert echoed[NEW] == b"compute 2.53"
    assert echoed[OLD] == b"2.53"
    assert b"OpenStack-API-Version" in echoed[b"vary"]


def test_documents_say_what_is_served() -> None:
    one = versions.one_version("http://somewhere/compute")["version"]
    assert (one["min_version"], one["version"]) == ("2.1", "2.96")
    assert one["links"][0]["href"] == "http://somewhere/compute/v2.1/"
    assert versions.all_versions("http://somewhere/compute")["versions"][0]["id"] == "v2.1"
