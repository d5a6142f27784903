"""Commands come first: what waits behind them, until when."""

from __future__ import annotations

import asyncio

from commands.precedence import Precedence

WAIT_SECONDS = 60.0


async def test_nothing_waits_where_no_command_is_in_hand() -> None:
    precedence = Precedence(WAIT_SECONDS)
    with precedence.command():
        pass
    waiting = asyncio.create_task(precedence.turn())
    await asyncio.sleep(0)
    assert waiting.done()


async def test_the_turn_comes_when_the_last_command_ends() -> None:
    precedence = Precedence(WAIT_SECONDS)
    order: list[str] = []

    async def behind() -> None:
        await precedence.turn()
        order.append("behind")

    with precedence.command():
        waiting = asyncio.create_task(behind())
        with precedence.command():
            await asyncio.sleep(0)
            order.append("one")
        await asyncio.sleep(0)
        order.append("other")
    async with asyncio.timeout(WAIT_SECONDS):
        await waiting
    assert order == ["one", "other", "behind"]


async def test_the_turn_comes_though_commands_never_end() -> None:
    precedence = Precedence(0.05)
    with precedence.command():
        async with asyncio.timeout(WAIT_SECONDS):
            await precedence.turn()


async def test_a_command_that_waits_for_the_control_plane_is_not_in_its_way() -> None:
    precedence = Precedence(WAIT_SECONDS)
    with precedence.command():
        with precedence.aside():
            waiting = asyncio.create_task(precedence.turn())
            await asyncio.sleep(0)
            assert waiting.done()
        waiting = asyncio.create_task(precedence.turn())
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(WAIT_SECONDS):
        await waiting
