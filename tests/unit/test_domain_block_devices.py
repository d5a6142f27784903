"""What may be asked for as a new server's disks, in both forms of the request and in an image; Nova's refusals."""

from __future__ import annotations

from typing import Any

import pytest

from domain import block_devices
from domain.block_devices import Wanted
from domain.errors import Invalid
from domain.server import FlavorSnapshot

FLAVOR = FlavorSnapshot(id="1", name="m1.nano", vcpus=1, ram=96, disk=1, ephemeral=1, swap=512)
ROOT: dict[str, Any] = {"source_type": "volume", "uuid": "v", "destination_type": "volume", "boot_index": 0}
LOCAL: dict[str, Any] = {"source_type": "image", "uuid": "i", "destination_type": "local", "boot_index": 0}
BLANK: dict[str, Any] = {"source_type": "blank", "destination_type": "volume", "volume_size": 1}


def judged(*mappings: dict[str, Any], image_id: str | None = None, count: int = 1) -> list[Wanted]:
    wanted = block_devices.wanted_of(mappings, image_id=image_id)
    block_devices.must_make_sense(wanted, FLAVOR, image_id=image_id, count=count)
    return wanted


def test_what_makes_sense() -> None:
    (root,) = judged(ROOT)
    assert (root.source_id, root.is_root, root.destination) == ("v", True, "volume")
    _, second = judged(LOCAL, BLANK | {"boot_index": "1", "device_name": "vdc", "tag": "t"}, image_id="i")
    assert (second.boot_index, second.device, second.tag, second.size_gb) == (1, "/dev/vdc", "t", 1)
    swap = {"source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 512}
    assert judged(LOCAL, swap, image_id="i")[1].boot_index is None
    assert judged(ROOT, ROOT | {"uuid": "w", "boot_index": -1, "device_name": "/dev/sdb"})[1].device is None


@pytest.mark.parametrize(
    ("mappings", "sentence"),
    [
        ([{"source_type": "tape"}], "Invalid source_type field."),
        ([{"source_type": "volume"}], "Missing device UUID."),
        ([BLANK | {"uuid": "v"}], "Invalid device UUID."),
        ([LOCAL | {"boot_index": 1}], "Mapping image to local is not supported."),
        ([ROOT | {"destination_type": "local"}], "Mapping volume to local is not supported."),
        ([ROOT | {"disk_bus": "scsi"}], "disk_bus scsi is not offered here."),
        ([ROOT | {"device_type": "cdrom"}], "device_type cdrom is not offered here."),
        ([ROOT | {"device_name": "/dev/v db"}], "Device name contains spaces."),
        ([ROOT | {"device_name": "/dev/"}], "Device name empty or too long."),
        ([ROOT | {"boot_index": None}], "Boot sequence for the instance and image/block device mapping"),
        ([ROOT, ROOT | {"uuid": "w", "boot_index": 2}], "Boot sequence for the instance"),
        ([ROOT, ROOT | {"uuid": "w"}], "Boot sequence for the instance"),
        ([ROOT, BLANK | {"volume_size": None}], "Blank volumes (source: 'blank', dest: 'volume') need to have"),
        ([LOCAL | {"destination_type": "volume"}], "Images with destination_type 'volume' need to have a non-zero"),
        ([ROOT, ROOT | {"boot_index": None}], "one volume is mapped twice."),
        ([ROOT | {"device_name": "vdb"}, BLANK | {"device_name": "vdb"}], "two disks have the same device name."),
    ],
)
def test_what_does_not(mappings: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        judged(*mappings)
    assert refused.value.message.startswith(f"Block Device Mapping is Invalid: {sentence}")


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        (BLANK | {"device_name": "vda"}, "The volume cannot be assigned the same device name as the root device vda"),
        (BLANK | {"destination_type": "local", "volume_size": 2}, "Ephemeral disks requested are larger than"),
        (
            BLANK | {"destination_type": "local", "guest_format": "swap", "volume_size": 513},
            "Swap drive requested is larger than instance type allows.",
        ),
    ],
)
def test_what_does_not_beside_an_image(mapping: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        judged(LOCAL, mapping, image_id="i")
    assert refused.value.message.startswith(sentence)


def test_a_volume_is_for_one_server() -> None:
    with pytest.raises(Invalid, match="Cannot attach one or more volumes to multiple instances"):
        judged(ROOT, count=2)
    assert judged(LOCAL | {"destination_type": "volume", "volume_size": 1}, count=2)


def test_the_older_form() -> None:
    one, other = {"volume_id": "v", "device_name": "vdb"}, {"snapshot_id": "s", "device_name": "/dev/vda"}
    found = block_devices.wanted_of_legacy([one, other, {"volume_id": "x", "no_device": True}], image_id=None)
    assert [(it.source_type, it.source_id, it.boot_index) for it in found] == [
        ("volume", "v", None),
        ("snapshot", "s", 0),
    ]
    assert block_devices.wanted_of_legacy([one], image_id=None)[0].is_root
    image, beside = block_devices.wanted_of_legacy([one], image_id="i")
    assert (image.source_id, image.is_root, beside.boot_index) == ("i", True, None)
    with pytest.raises(Invalid, match="Missing device UUID"):
        block_devices.wanted_of_legacy([{"device_name": "vdb"}], image_id=None)


def test_an_image_of_volumes_says_what_it_is_made_of() -> None:
    snapshots = [
        {"snapshot_id": "s0", "size_gb": 1, "boot_index": 0, "device": "/dev/vda"},
        {"snapshot_id": "s1", "size_gb": 2, "boot_index": None, "device": "/dev/vdb"},
    ]
    common = {"delete_on_termination": True, "tag": None}
    text = block_devices.image_property([one | common for one in snapshots])
    root, data = block_devices.of_image({"block_device_mapping": text})
    assert (root.source_type, root.source_id, root.is_root, root.size_gb) == ("snapshot", "s0", True, 1)
    assert block_devices.merged([root, data], block_devices.wanted_of([LOCAL], image_id="i")) == [root, data]
    (own,) = block_devices.wanted_of([BLANK | {"device_name": "vdb"}], image_id=None)
    assert block_devices.merged([root, data], [own]) == [root, own]
    assert block_devices.of_image({}) == []
    with pytest.raises(Invalid, match="can not be read"):
        block_devices.of_image({"block_device_mapping": "{"})
