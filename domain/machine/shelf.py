"""The shelf: shelve, offload, unshelve."""

from domain.machine.rule import ADMIN, UNCHANGED, CommandRule, Stage, ends, settled, walks

RULES = (
    CommandRule(
        "shelve",
        "Shelve",
        guard=settled("active", "stopped", "paused", "suspended"),
        accept_task_state="shelving",
        stages=walks(
            "shelving_image_pending_upload",
            "shelving_image_uploading",
            Stage("shelving_offloading", "shelved"),
        ),
        outcomes=ends({"shelved", "shelved_offloaded"}, failed={UNCHANGED, "stopped"}),
        action="shelve",
        events=("compute_shelve_instance", "compute_shelve_offload_instance"),
        word="shelve",
        deadline_seconds=1800,
        why="Goes on to offload by default. A failure after power-off leaves stopped, as it is (Nova says active); one "
        "of the offload leaves it shelved.",
    ),
    CommandRule(
        "shelve-offload",
        "Offload a shelved server",
        guard=settled("shelved"),
        accept_task_state="shelving_offloading",
        outcomes=ends("shelved_offloaded"),
        action="shelveOffload",
        events=("compute_shelve_offload_instance",),
        word="shelveOffload",
        policy=ADMIN,
        deadline_seconds=600,
    ),
    CommandRule(
        "unshelve",
        "Unshelve",
        guard=settled("shelved", "shelved_offloaded"),
        accept_task_state="unshelving",
        stages=walks(
            Stage("powering-on", only_from="shelved"),
            Stage("spawning", only_from="shelved_offloaded"),
        ),
        outcomes=ends("active", failed={UNCHANGED, "error"}),
        action="unshelve",
        events=("compute_start_instance", "get_image_info", "schedule_instances", "compute_unshelve_instance"),
        word="unshelve",
        deadline_seconds=1800,
        retries=True,
        why="Powering-on where the host still holds it, spawning where it was offloaded. One that fails after it was "
        "offloaded leaves it so; error if its image is gone.",
    ),
)
