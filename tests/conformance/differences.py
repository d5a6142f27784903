"""Where chronova answers otherwise than the recorded Nova, on purpose: each case with its reason.

A difference covers exactly the findings that `covers` accepts. One that covers nothing any more is an error too, so
this list cannot rot. A reason names the improvement, or what the recording's fake hypervisor driver did otherwise than
a real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.conformance.findings import Finding


@dataclass(frozen=True)
class Difference:
    name: str
    reason: str
    covers: Callable[[Finding], bool]


def _power_of_fake_driver(finding: Finding) -> bool:
    return finding.what == "after.power_state" and (finding.action, finding.expected, finding.actual) in {
        ("pause", 1, 3),
        ("suspend", 1, 7),
        ("rescue", 4, 1),
        ("rescue-image", 4, 1),
    }


def _one_action_per_request(finding: Finding) -> bool:
    return (
        finding.what == "actions"
        and finding.action == "DELETE"
        and len(finding.expected) == 2
        and finding.expected[:1] == finding.actual
    )


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "nobody-learns-of-others-servers",
        "Another project's server does not exist for its callers. Nova checks the policy of tag lists first "
        "and answers 403, which tells that the server is there.",
        lambda one: one.cell == "policy/ACTIVE/tags-GET/other",
    ),
    Difference(
        "no-500-without-host",
        "An unhandled state is 409, never 500: network information cannot be injected into a server that is "
        "on no host.",
        lambda one: (
            one.action == "injectNetworkInfo" and (one.what != "code" or (one.expected, one.actual) == (500, 409))
        ),
    ),
    Difference(
        "every-failure-has-a-reason",
        "A server that an administrator set to error says so in its fault; Nova shows none.",
        lambda one: one.what == "body" and (one.expected, one.actual) == (".server with []", ".server with ['fault']"),
    ),
    Difference(
        "diagnostics-are-the-drivers",
        "The oldest diagnostics are a flat list of what the driver counted, named after its devices: another "
        "driver, other names.",
        lambda one: one.cell == "body/diagnostics@2.1" and one.what == "body",
    ),
    Difference(
        "real-power-states",
        "A paused guest is paused, a suspended one suspended, a rescued one running. The recording's fake "
        "driver left the power state as it was.",
        _power_of_fake_driver,
    ),
    Difference(
        "one-action-per-request",
        "One delete is one action. Nova records a second one for the resize or migration that the delete ends.",
        _one_action_per_request,
    ),
    Difference(
        "every-acceptance-is-in-the-history",
        "A delete that takes over from a soft delete in progress is an action of its own; Nova records none.",
        lambda one: one.cell == "frozen/T_soft-deleting/DELETE/admin" and one.what == "actions",
    ),
    Difference(
        "no-moves-between-hosts-yet",
        "A cold migration needs a second host to go to, and moves between hosts come later: it is refused with 501 "
        "and a sentence that says what to do, so there is nothing to confirm or revert after it. Nova accepts it.",
        lambda one: one.cell.startswith("sequences/migrate-"),
    ),
    Difference(
        "delete-ends-a-confirmation",
        "Deleting while a resize is being confirmed is accepted and ends the confirmation. Nova waits for "
        "the frozen host and fails with 500 after the task_state was set.",
        lambda one: one.cell == "frozen/T_confirming/forceDelete/admin",
    ),
)


def explained(finding: Finding) -> Difference | None:
    return next((one for one in DIFFERENCES if one.covers(finding)), None)
