"""Models of one number for tests of batchers."""

import asyncio

from support.stand_ins import PATIENCE, Gate


def value(answer):
    return float(answer[0, 0])


class Poisoned(Gate):
    """Fails where a batch holds a negative number."""

    def answer(self, batch):
        if (batch < 0).any():
            raise ValueError("poison")
        return super().answer(batch)


def run(coroutine):
    async def bounded():
        return await asyncio.wait_for(coroutine, PATIENCE)

    return asyncio.run(bounded())
