"""The one entry point: authorization, races, idempotency keys, preconditions, recorded rejections."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from commands.context import SERVICE
from commands.handler import Commands
from commands.idempotency import Idempotency, nothing_found
from commands.streams import IDEMPOTENCY, MAX_KEPT_BYTES, ORDERS, REJECTIONS, ensure_streams
from domain.errors import Conflict, Forbidden, Invalid, KeyReused, NotFound, PreconditionFailed, Unavailable
from eventlog.checkpoint import load_or_create_key, read_checkpoint
from eventlog.nats_server import EmbeddedNats
from tests.system import ADMIN, READER, STRANGER, WAIT_SECONDS, System, context, new_server

WRITERS = 64


async def test_a_race_has_one_winner_and_every_loser_hears_what_a_late_caller_hears(system: System) -> None:
    server = await system.create()
    await system.stop_agents()
    answers = await asyncio.gather(
        *(system.commands.server("stop", server.id, {}, context()) for _ in range(WRITERS)), return_exceptions=True
    )
    lost = [answer for answer in answers if isinstance(answer, Conflict)]
    assert len(lost) == WRITERS - 1
    sentence = f"Cannot 'stop' instance {server.id} while it is in task_state powering-off"
    assert {answer.message for answer in lost} == {sentence}


async def test_scope_and_roles(system: System) -> None:
    server = await system.create()
    with pytest.raises(NotFound, match=f"Instance {server.id} could not be found"):
        await system.commands.server("stop", server.id, {}, context(STRANGER))
    with pytest.raises(Forbidden, match="os_compute_api:servers:stop"):
        await system.commands.server("stop", server.id, {}, context(READER))
    with pytest.raises(Forbidden, match="os-admin-actions"):
        await system.commands.server("reset-state", server.id, {"state": "error"}, context())
    assert (await system.do("stop", server.id, actor=ADMIN)).vm_state == "stopped"


@pytest.mark.parametrize("id_", ["nope", "a.b", "*", ">", "", "x" * 300])
async def test_ids_that_nothing_can_have_are_not_found(system: System, id_: str) -> None:
    with pytest.raises(NotFound):
        await system.commands.server("stop", id_, {}, context())


async def test_unknown_and_internal_commands_are_refused(system: System) -> None:
    server = await system.create()
    for command in ("frobnicate", "power-sync"):
        with pytest.raises(Invalid, match="There is no such action"):
            await system.commands.server(command, server.id, {}, context())


async def test_if_match_holds_the_version(system: System) -> None:
    server = await system.create()
    with pytest.raises(PreconditionFailed):
        await system.commands.server("stop", server.id, {}, context(if_match=server.version - 1))
    await system.commands.server("lock", server.id, {}, context(if_match=server.version))
    assert (await system.server(server.id)).locked


async def test_a_dry_run_decides_and_appends_nothing(system: System) -> None:
    server = await system.create()
    position = await system.log.last_position()
    answer = await system.commands.server("stop", server.id, {}, context(dry_run=True))
    assert answer.server.task_state == "powering-off"
    with pytest.raises(Conflict):
        await system.commands.server("start", server.id, {}, context(dry_run=True))
    assert await system.log.last_position() == position


async def test_the_same_key_and_request_give_the_same_answer(system: System) -> None:
    server = await system.create()
    first = await system.commands.server("stop", server.id, {}, context(idempotency_key="k"))
    again = await system.commands.server("stop", server.id, {}, context(idempotency_key="k"))
    assert (again.request_id, again.position) == (first.request_id, first.position)
    stopped = [type_ for type_ in await system.event_types(server.id) if type_ == "server.stop.accepted"]
    assert len(stopped) == 1
    with pytest.raises(KeyReused):
        await system.commands.server("lock", server.id, {}, context(idempotency_key="k"))


async def test_a_key_of_another_project_is_another_key(system: System) -> None:
    server = await system.create()
    await system.commands.server("lock", server.id, {}, context(idempotency_key="k"))
    await system.commands.server("unlock", server.id, {}, context(ADMIN, idempotency_key="k"))
    assert not (await system.server(server.id)).locked


async def test_creating_twice_with_one_key_makes_one_server(system: System) -> None:
    first = await system.commands.create_servers([new_server()], context(idempotency_key="c"))
    again = await system.commands.create_servers([new_server()], context(idempotency_key="c"))
    assert first[0].server_id == again[0].server_id
    with pytest.raises(KeyReused):
        await system.commands.create_servers([new_server("other")], context(idempotency_key="c"))


async def test_a_key_whose_process_died_before_the_answer_was_kept(system: System) -> None:
    """The reservation is there, the commit too, the answer is not: the next call finds the commit."""
    server = await system.create()
    first = await system.commands.server("stop", server.id, {}, context(idempotency_key="k"))
    info = await system.log.js.stream_info(IDEMPOTENCY, subjects_filter=">")
    (subject,) = info.state.subjects or {}
    kept = await system.log.js.get_last_msg(IDEMPOTENCY, subject)
    record = msgspec.json.decode(kept.data or b"")
    await system.log.js.publish(subject, msgspec.json.encode(record | {"answer": None}))
    again = await system.commands.server("stop", server.id, {}, context(idempotency_key="k"))
    assert (again.request_id, again.position) == (first.request_id, first.position)


async def kept_rejection(system: System, subject: str) -> RawStreamMsg:
    """The newest one on a subject. It is sent without waiting for it to be stored."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                return await system.log.js.get_last_msg(REJECTIONS, subject)
            except NotFoundError:
                await asyncio.sleep(0.01)


async def test_rejections_are_recorded_without_their_secrets(system: System) -> None:
    server = await system.create()
    await system.do("stop", server.id)
    asked = context()
    with pytest.raises(Conflict):
        await system.commands.server("set-password", server.id, {"password": "hunter2"}, asked)
    kept = await kept_rejection(system, f"rejected.server.{server.id}")
    rejection = msgspec.json.decode(kept.data or b"")
    assert rejection["request_id"] == asked.request_id
    assert rejection["code"] == 409
    assert rejection["params"] == {"password": "(redacted)"}
    assert rejection["actor"]["user_id"] == "alice"


async def test_a_client_reads_its_own_writes(system: System) -> None:
    server = await system.create()
    for locked in (True, False) * 5:
        await system.commands.server("lock" if locked else "unlock", server.id, {}, context())
        shown = await system.read.server(server.id)
        assert shown is not None
        assert shown.locked is locked


async def test_secrets_reach_the_agent_but_not_the_log(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    sealer = Fernet(Fernet.generate_key())
    sealing: dict[str, Any] = {
        "seal": lambda text: sealer.encrypt(text.encode()).decode(),
        "unseal": lambda text: sealer.decrypt(text.encode()).decode(),
    }
    async with System.open(own_nats, tmp_path, **sealing) as system:
        server = await system.create(admin_password="first-secret")
        server = await system.do("set-password", server.id, {"password": "hunter2"})
        commits = await system.log.read("server", server.id)
        order = await system.log.js.get_last_msg(ORDERS, f"orders.{server.host}.{server.id}")
    text = b"".join(one.raw for one in commits)
    assert b"hunter2" not in text
    assert b"first-secret" not in text
    assert msgspec.json.decode(order.data or b"")["params"]["password"] == "hunter2"


async def test_the_same_key_at_once_gives_one_execution_and_one_answer(system: System) -> None:
    server = await system.create()
    answers = await asyncio.gather(
        *(system.commands.server("stop", server.id, {}, context(idempotency_key="k")) for _ in range(16))
    )
    assert len({(answer.request_id, answer.position) for answer in answers}) == 1
    assert (await system.event_types(server.id)).count("server.stop.accepted") == 1


async def test_another_process_waits_for_the_answer_too(system: System) -> None:
    server = await system.create()
    others = [Commands(system.log, visible=_shown, settings=system.settings, hosts=system.watch) for _ in range(4)]
    answers = await asyncio.gather(
        *(one.server("stop", server.id, {}, context(idempotency_key="k")) for one in (system.commands, *others))
    )
    assert len({(answer.request_id, answer.position) for answer in answers}) == 1
    assert (await system.event_types(server.id)).count("server.stop.accepted") == 1


async def _shown(position: int) -> None:
    return


async def test_a_refusal_is_kept_under_its_key(system: System) -> None:
    server = await system.create()
    with pytest.raises(Conflict) as first:
        await system.commands.server("start", server.id, {}, context(idempotency_key="k"))
    await system.do("stop", server.id)
    with pytest.raises(Conflict) as again:
        await system.commands.server("start", server.id, {}, context(idempotency_key="k"))
    assert (again.value.text, again.value.reason) == (first.value.text, first.value.reason)
    with pytest.raises(KeyReused):
        await system.commands.server("lock", server.id, {}, context(idempotency_key="k"))
    assert (await system.server(server.id)).vm_state == "stopped"
    await kept_rejection(system, f"rejected.server.{server.id}")
    info = await system.log.js.stream_info(REJECTIONS)
    assert info.state.messages == 1, "a refusal that is told again is not another one"


async def test_a_reservation_left_behind_is_taken_over_by_one(own_nats: EmbeddedNats, tmp_path: Path) -> None:
    async with System.open(own_nats, tmp_path) as system:
        server = await system.create()
        idempotency = system.commands.idempotency
        asked, done = context(idempotency_key="k"), 0
        started = asyncio.Event()

        async def dies() -> dict[str, Any]:
            started.set()
            await asyncio.sleep(60)
            return {}

        async def works() -> dict[str, Any]:
            nonlocal done
            done += 1
            return {"id": server.id}

        other = Idempotency(system.log, 2.0)  # longer than whoever takes the key over needs for its answer
        dead = asyncio.create_task(idempotency.run(asked, "request", nothing_found, dies))
        await started.wait()
        answers = await asyncio.gather(*(other.run(asked, "request", nothing_found, works) for _ in range(4)))
        dead.cancel()
        await asyncio.gather(dead, return_exceptions=True)
        answers.append(await other.run(asked, "request", nothing_found, works))  # the one that died takes nothing back
    assert answers == [{"id": server.id}] * 5
    assert done == 1


async def test_what_was_unavailable_is_not_kept_under_its_key(system: System) -> None:
    asked = context(idempotency_key="k")

    async def fails() -> dict[str, Any]:
        raise Unavailable("not now")

    async def works() -> dict[str, Any]:
        return {"done": True}

    with pytest.raises(Unavailable):
        await system.commands.idempotency.run(asked, "request", nothing_found, fails)
    assert await system.commands.idempotency.run(asked, "request", nothing_found, works) == {"done": True}


async def test_a_repeat_whose_first_answer_was_lost_finds_what_was_made(system: System) -> None:
    """Below the API's memory of answers: the id of what is created derives from the key."""
    asked = context(ADMIN, idempotency_key="k")
    first = await system.commands.create("network", {"name": "one"}, asked)
    assert await system.commands.create("network", {"name": "one"}, asked) == first
    with pytest.raises(KeyReused):
        await system.commands.create("network", {"name": "other"}, asked)
    with pytest.raises(Conflict):
        await system.commands.create("network", {"name": "one"}, context(ADMIN), id=first.id)


async def test_the_refused_creation_of_a_server_is_recorded(system: System) -> None:
    new, asked = new_server(admin_password="hunter2", user_data="aHVudGVyMg=="), context(READER)
    with pytest.raises(Forbidden):
        await system.commands.create_servers([new], asked)
    kept = await kept_rejection(system, f"rejected.server.{new.id}")
    rejection = msgspec.json.decode(kept.data or b"")
    assert (rejection["command"], rejection["code"], rejection["request_id"]) == ("create", 403, asked.request_id)
    assert rejection["params"]["admin_password"] == rejection["params"]["user_data"] == "(redacted)"


async def test_a_checkpoint_is_a_command_too(system: System, tmp_path: Path) -> None:
    await system.create()
    await system.quiet()  # a commit that came later would be one more to cover
    key = load_or_create_key(tmp_path / "keys")
    first, second = await asyncio.gather(system.commands.checkpoint(key), system.commands.checkpoint(key))
    assert first is not None
    assert second is not None
    assert first.position == second.position
    assert read_checkpoint(first.commit).is_signed_by(key.public_key())
    assert first.commit.meta.actor == SERVICE
    assert await system.commands.checkpoint(key) is None


async def test_an_answer_too_large_to_be_kept_is_said_to_be(system: System) -> None:
    """The work is done once: a repeat hears that it was done, and that its answer is not there."""
    idempotency, done = Idempotency(system.log, 5.0), 0
    asked = context(idempotency_key="much")

    async def work() -> dict[str, Any]:
        nonlocal done
        done += 1
        return {"much": "x" * MAX_KEPT_BYTES}

    first = await idempotency.run(asked, "request", nothing_found, work)
    assert len(first["much"]) == MAX_KEPT_BYTES
    with pytest.raises(Conflict, match="too large to keep") as refused:
        await idempotency.run(asked, "request", nothing_found, work)
    assert (refused.value.reason, done) == ("answer_not_kept", 1)


async def test_a_stream_of_an_older_version_takes_what_is_sent_now(system: System) -> None:
    small = (await system.log.js.stream_info(IDEMPOTENCY)).config
    small.max_msg_size = 1 << 16
    await system.log.js.update_stream(small)
    await ensure_streams(system.log.js)
    assert (await system.log.js.stream_info(IDEMPOTENCY)).config.max_msg_size == MAX_KEPT_BYTES
