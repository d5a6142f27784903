"""What must be true of the machine as a whole, whatever its rules say."""

import subprocess
import sys
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.machine import BEFORE_CREATE, MACHINE, OBSERVED, PHASES, Pair
from domain.machine.transitions import occupied
from domain.states import POWER_STATES, TASK_STATES, VM_STATES

PAIRS: list[Pair] = [(vm_state, task_state) for vm_state in VM_STATES for task_state in (None, *TASK_STATES)]
RULES = [rule for rule in MACHINE.commands.values() if rule.exists]


def test_every_task_state_on_a_path_has_a_way_out_by_success_and_by_failure() -> None:
    for rule in RULES:
        for stage in occupied(rule):
            for vm_state in stage.vm_states:
                for task_state in stage.task_states:
                    if rule.instant or not rule.task_states:
                        continue
                    for phase in ("succeeded", "failed", "cancelled"):
                        ends = MACHINE.after(rule.event(phase), (vm_state, task_state))
                        assert ends, (rule.id, vm_state, task_state, phase)
                        assert all(task is None for _, task in ends), (rule.id, phase)


def test_every_task_state_but_one_is_set_by_some_command() -> None:
    used = {name for rule in RULES for name in rule.task_states}
    assert set(TASK_STATES) - used == {"resize_confirming"}, "a name of Nova's that no code of Nova's sets either"


def test_no_task_state_without_an_open_operation() -> None:
    """Only accepting an operation, or a step of one, sets a task_state; each of its ends clears what it set."""
    for rule in RULES:
        for pair in PAIRS:
            for phase in ("succeeded", "failed", "reverted", "cancelled"):
                for _, task_state in MACHINE.after(rule.event(phase), pair):
                    assert task_state is None or (task_state == pair[1] and not rule.task_states)
            for _, task_state in MACHINE.after(rule.event("accepted"), pair):
                assert task_state in (None, pair[1]) or not rule.instant


def test_no_dead_end_but_deleted() -> None:
    for pair in PAIRS:
        if pair[0] == "deleted":
            assert MACHINE.legal_commands(*pair) == ()
            continue
        assert {"delete", "force-delete", "reset-state"} <= set(MACHINE.legal_commands(*pair)), pair
    for pair in PAIRS:
        away = {after for event in MACHINE.event_types for after in MACHINE.after(event, pair)} - {pair}
        assert away, pair


def test_legal_commands_are_those_accepted() -> None:
    assert "stop" in MACHINE.legal_commands("active", None)
    assert "start" not in MACHINE.legal_commands("active", None)
    assert "reboot-hard" in MACHINE.legal_commands("active", "pausing")
    for hidden in ("create", "power-sync", "extend-volume", "snapshot-volume", "settle", "reset-network"):
        assert hidden not in MACHINE.legal_commands("stopped", None)


def test_a_move_of_one_region_is_refused_where_both_must_move() -> None:
    legal = MACHINE.legal
    assert legal("server.stop.succeeded", ("active", "powering-off"), ("stopped", None))
    assert not legal("server.stop.succeeded", ("active", "powering-off"), ("stopped", "powering-off"))
    assert not legal("server.stop.succeeded", ("active", "powering-off"), ("active", None))
    assert not legal("server.create.accepted", ("building", None), ("building", None))
    for event in MACHINE.event_types:
        for pair in PAIRS:
            results = MACHINE.after(event, pair)
            for vm_after, task_after in results:
                if vm_after != pair[0] and task_after != pair[1]:
                    assert (vm_after, pair[1]) not in results, (event, pair)


def test_create_is_the_first_event_and_no_other() -> None:
    for pair in PAIRS:
        assert bool(MACHINE.after("server.create.accepted", pair)) == (pair == BEFORE_CREATE)


def test_an_unknown_event_is_not_legal() -> None:
    assert not MACHINE.legal("server.stop.imagined", ("active", None), ("active", None))
    assert not MACHINE.legal("host.heartbeat.observed", ("active", None), ("active", None))
    for event in MACHINE.event_types:
        assert event == OBSERVED or event.rsplit(".", 1)[1] in PHASES


def test_observation_as_novas_power_sync() -> None:
    for vm_state in VM_STATES:
        for power_state in POWER_STATES:
            gone = vm_state in ("active", "paused") and power_state in ("shutdown", "crashed")
            kept = (vm_state, power_state) == ("active", "suspended")  # Nova stops it, and loses its memory
            wanted = "stopped" if gone else "suspended" if kept else vm_state
            assert MACHINE.observe(vm_state, None, power_state) == wanted
            for task_state in TASK_STATES:
                assert MACHINE.observe(vm_state, task_state, power_state) == vm_state
    for pair in PAIRS:
        for power_state in POWER_STATES:
            assert MACHINE.legal(OBSERVED, pair, (MACHINE.observe(*pair, power_state), pair[1]))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_random_life_is_legal_and_ends_only_by_deletion(data: st.DataObject) -> None:
    """One open operation at a time: accept, walk, end; every event is a transition; a task_state means an operation."""
    pair: Pair = MACHINE.accept("create", *BEFORE_CREATE) or BEFORE_CREATE
    assert MACHINE.legal("server.create.accepted", BEFORE_CREATE, pair)
    open_command: str | None = "create"
    for _ in range(data.draw(st.integers(1, 25))):
        if pair[0] == "deleted":
            break
        if open_command is None:
            assert pair[1] is None, "a task_state without an open operation"
            command = data.draw(st.sampled_from(MACHINE.legal_commands(*pair)))
            after = data.draw(st.sampled_from(sorted(MACHINE.after(f"server.{command}.accepted", pair), key=str)))
            assert MACHINE.legal(f"server.{command}.accepted", pair, after)
            pair = after
            open_command = None if MACHINE.rule(command).instant else command
            continue
        rule = MACHINE.rule(open_command)
        phases = ["step_started", "step_finished", "cancelled", *rule.outcomes]
        phase = data.draw(st.sampled_from(phases))
        results = MACHINE.after(rule.event(phase), pair)
        assert results, (rule.id, phase, pair)
        pair = data.draw(st.sampled_from(sorted(results, key=str)))
        if phase not in ("step_started", "step_finished"):
            open_command = None


def test_the_import_is_cheap_and_needs_no_chart() -> None:
    """The hot path pays for no statechart: importing the machine loads neither the library nor the renderer."""
    code = (
        "import sys, domain.machine; sys.exit('statemachine' in sys.modules or 'domain.machine.render' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_an_acceptance_is_one_lookup() -> None:
    """Loose on purpose: a table lookup takes a fraction of a microsecond, a run of the chart hundreds."""
    count = 2_000

    def one_round() -> float:
        begin = time.process_time()
        for _ in range(count):
            MACHINE.accept("stop", "active", None)
        return (time.process_time() - begin) / count

    assert min(one_round() for _ in range(10)) < 20e-6  # a collection of garbage is in one of them at most
