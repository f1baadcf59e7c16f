"""Values from task to task: at once while there is room, else when there is."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from netsync.transfer.handing import hand_on


async def test_what_finds_room_goes_without_a_visit_to_the_scheduler() -> None:
    send, receive = trio.open_memory_channel[int](2)
    with trio.CancelScope() as scope, send, receive:
        scope.cancel()
        await hand_on(send, 1)
        await hand_on(send, 2)
        assert [receive.receive_nowait(), receive.receive_nowait()] == [1, 2]
    assert not scope.cancelled_caught


async def test_what_finds_none_waits_and_keeps_its_place() -> None:
    send, receive = trio.open_memory_channel[int](1)

    async def hand_all() -> None:
        async with send:
            for value in range(5):
                await hand_on(send, value)

    async with trio.open_nursery() as nursery, receive:
        nursery.start_soon(hand_all)
        await wait_all_tasks_blocked()
        assert receive.statistics().current_buffer_used == 1
        assert [value async for value in receive] == [0, 1, 2, 3, 4]
