"""What the machine can do is judged by trying it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hypervisor_agent.driver import best_driver, make_driver, must_know
from hypervisor_agent.libvirt.machine import EMULATOR, can_run_libvirtd, probe, program


@pytest.mark.skipif(program(EMULATOR) is None, reason=f"{EMULATOR} is not installed")
def test_the_probe_tells_a_processor_that_counts_from_one_that_does_not() -> None:
    assert probe("tcg", count=1_000_000, seconds=120)
    assert not probe("tcg", count=2_000_000_000, seconds=0.5)


def test_auto_takes_the_best_there_is(tmp_path: Path) -> None:
    expected = "libvirt" if can_run_libvirtd() else "libvirt-test"
    assert best_driver() == expected
    assert make_driver("auto", "host-1", tmp_path).name == expected


def test_an_option_that_a_driver_does_not_have_is_refused_with_those_that_it_has() -> None:
    for name, option, words in (
        (
            "simulated",
            "latencies",
            "latencies is no option of the driver simulated; known are capacity, failures, latency",
        ),
        ("libvirt-test", "uri", "uri is no option of the driver libvirt-test; known are stop_guests"),
    ):
        with pytest.raises(ValueError, match=words):
            make_driver(name, "host-1", Path("unused"), {option: 1})
    must_know("auto", ["latency", "uri"])
    with pytest.raises(ValueError, match="nonsense is no option of any driver; known are capacity"):
        must_know("auto", ["nonsense"])


def test_an_unknown_driver_is_named() -> None:
    with pytest.raises(ValueError, match="no driver 'xen'; use one of auto, libvirt"):
        make_driver("xen", "host-1", Path("unused"))
