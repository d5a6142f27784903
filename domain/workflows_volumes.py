"""Volumes plugged in, out, changed, extended and copied while a server has them: what each takes, step by step."""

from __future__ import annotations

from domain.server import Server
from domain.workflow import Step, Workflow, has_guest, unchanged


def _has_no_guest(server: Server) -> bool:
    return not has_guest(server)


VOLUME_WORKFLOWS = (
    Workflow(
        "attach-volume",
        (
            Step("begin_attach", control="begin_attach", event="compute_attach_volume", undo="release_volume"),
            Step(
                "attach_volume",
                order="attach_volume",
                event="compute_attach_volume",
                undo="unplug_volume",
                when=has_guest,
                keeps_result=True,
            ),
            Step("record_volume", control="record_volume", event="compute_attach_volume", settles=True),
        ),
        unchanged,
    ),
    Workflow(
        "detach-volume",
        (
            Step("begin_detach", control="begin_detach", event="compute_detach_volume", undo="roll_detaching"),
            Step("detach_volume", order="detach_volume", event="compute_detach_volume", when=has_guest),
            Step("forget_volume", control="forget_volume", event="compute_detach_volume"),
        ),
        unchanged,
    ),
    Workflow(
        "swap-volume",
        (
            Step("begin_swap", control="begin_swap", event="compute_swap_volume", undo="release_swap"),
            Step("swap_volume", order="swap_volume", event="compute_swap_volume", undo="swap_back"),
            Step("record_swap", control="record_swap", event="compute_swap_volume", settles=True),
        ),
        unchanged,
    ),
    Workflow(
        "extend-volume",
        (
            Step(
                "extend_volume",
                order="extend_volume",
                event="compute_extend_volume",
                undo="roll_extending",
                when=has_guest,
            ),
            Step(
                "extend_file",
                control="extend_file",
                event="compute_extend_volume",
                undo="roll_extending",
                when=_has_no_guest,
            ),
            Step("record_extended", control="record_extended", event="compute_extend_volume", settles=True),
        ),
        unchanged,
    ),
    Workflow(
        "snapshot-volume",
        (
            Step(
                "snapshot_volume",
                order="snapshot_volumes",
                event="compute_snapshot_volume",
                undo="spoil_snapshot",
                when=has_guest,
            ),
            Step(
                "copy_snapshot",
                control="copy_snapshot",
                event="compute_snapshot_volume",
                undo="spoil_snapshot",
                when=_has_no_guest,
            ),
            Step("record_snapshot", control="record_snapshot", event="compute_snapshot_volume", settles=True),
        ),
        unchanged,
    ),
)
