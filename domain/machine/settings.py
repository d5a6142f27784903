"""What is said about a server and asked of it: lock, names, metadata, tags, password, consoles, the state reset."""

from domain.machine.rule import (
    ADMIN,
    ANY_TASK_STATE,
    ANY_VM_STATE,
    AT_ONCE,
    NO_TASK,
    SERVICE,
    CommandRule,
    Guard,
    always,
    ends,
    settled,
)

_DESCRIBED = frozenset({"active", "paused", "suspended", "stopped"})

RULES = (
    CommandRule("lock", "Lock", guard=always(), outcomes=AT_ONCE, action="lock", events=("api_lock",), word="lock"),
    CommandRule(
        "unlock", "Unlock", guard=always(), outcomes=AT_ONCE, action="unlock", events=("api_unlock",), word="unlock"
    ),
    CommandRule("update", "Rename or describe", guard=always(), outcomes=AT_ONCE, word="update"),
    CommandRule(
        "metadata-set",
        "Set metadata",
        guard=Guard(_DESCRIBED, ANY_TASK_STATE, launched=True, lock_checked=True),
        outcomes=AT_ONCE,
        word="update metadata",
    ),
    CommandRule(
        "metadata-delete",
        "Delete metadata",
        guard=Guard(_DESCRIBED, ANY_TASK_STATE, launched=True, lock_checked=True),
        outcomes=AT_ONCE,
        word="delete metadata",
    ),
    CommandRule("tags", "Change tags", guard=Guard(_DESCRIBED, ANY_TASK_STATE), outcomes=AT_ONCE, word="update tag"),
    CommandRule(
        "set-password",
        "Set the administrator's password",
        guard=settled("active"),
        accept_task_state="updating_password",
        outcomes=ends(),
        action="changePassword",
        events=("compute_set_admin_password",),
        word="changePassword",
        deadline_seconds=60,
        locked_reads_invalid=True,
    ),
    CommandRule(
        "get-console-output",
        "Read the console log",
        guard=always(host="set"),
        outcomes=ends(),
        word="get_console_output",
        deadline_seconds=60,
    ),
    CommandRule(
        "remote-console",
        "Open a console",
        guard=Guard(ANY_VM_STATE, ANY_TASK_STATE - {"deleting", "migrating"}, host="set"),
        outcomes=AT_ONCE,
        word="get_vnc_console",
        why="While migrating it is refused with 409 (Nova fails with 500).",
    ),
    CommandRule(
        "reset-state",
        "Reset the state",
        guard=always(),
        accept_vm_states=("active", "error"),
        accept_task_state=None,
        outcomes=AT_ONCE,
        action="resetState",
        word="os-resetState",
        policy=ADMIN,
        why="Cancels what was in progress, so that it cannot come back later (in Nova it only edits the row).",
    ),
    CommandRule(
        "settle",
        "Settle what a reset ended",
        guard=Guard(ANY_VM_STATE, NO_TASK),
        outcomes=ends(),
        word="settle",
        policy=SERVICE,
        deadline_seconds=300,
        internal=True,
        why="Follows a reset-state: the host drops what it was at, the guest gets the devices that the log says.",
    ),
)
