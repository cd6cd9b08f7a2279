"""A batcher called from tasks of asyncio."""

import asyncio

import pytest
from support.batchers import Poisoned, run, value
from support.stand_ins import Gate, row

from sr_tile.errors import DeadlineError, Overloaded, StoppedError
from sr_tile.serving import DynamicBatcher


def test_tasks_and_threads_share_batches():
    gate = Gate()

    async def main():
        async with DynamicBatcher(gate) as host:
            first = asyncio.create_task(host.apredict(row(0)))
            await asyncio.to_thread(gate.wait_for_call)
            tasks = [asyncio.create_task(host.apredict(row(number))) for number in (1, 2)]
            thread = asyncio.create_task(asyncio.to_thread(host.predict, row(3)))
            while host.depth < 3:  # the loop turns while the model runs
                await asyncio.sleep(0)
            gate.open()
            return [value(answer) for answer in await asyncio.gather(first, *tasks, thread)]

    assert run(main()) == [0, 2, 4, 6]
    assert [len(batch) for batch in gate.batches] == [1, 3]


def test_tasks_meet_the_same_errors():
    gate = Poisoned()

    async def main():
        async with DynamicBatcher(gate, max_queue=1) as host:
            first = asyncio.create_task(host.apredict(row(-1)))
            await asyncio.to_thread(gate.wait_for_call)
            with pytest.raises(DeadlineError):
                await host.apredict(row(1), timeout=0.01)
            waiting = asyncio.create_task(host.apredict(row(2)))
            while not host.depth:
                await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await host.apredict(row(3))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while host.depth:
                await asyncio.sleep(0)
            gate.open()
            with pytest.raises(ValueError, match="poison"):
                await first
        with pytest.raises(StoppedError):
            await host.apredict(row(1))

    run(main())
    assert gate.batches == [[-1]]
