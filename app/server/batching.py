"""Dynamic batching: requests that come while a call runs share the next one."""

import asyncio
import math
import time
from collections import deque

import numpy as np

from app.server.errors import RestError

SHORT = 0.01  # seconds of a call that is not worth another thread
TURNS = 3  # of the event loop: what a request needs from its socket to the queue


class _Waiting:
    """A request in the queue. Requests whose rows have the same shapes may share a call."""

    def __init__(self, inputs, until):
        self.inputs, self.until = inputs, until
        self.rows = max((len(value) for value in inputs.values() if value.ndim), default=1)
        self.shapes = {name: value.shape[1:] for name, value in inputs.items()}
        self.done = asyncio.get_running_loop().create_future()


class Batcher:
    """The calls of one signature of one version.

    Args:
        call: of {input: array} to {output: array}; it runs in a thread of `pool`, or where it is
            short in the event loop itself: two changes of thread take longer.
        size: rows of a call at most, but for a single request of more.
        wait: seconds that a call waits for more rows. Without it, whatever waits while a call
            runs goes into the next one.
        parallel: calls at a time.
        seen: told the rows of each call.
    """

    def __init__(self, call, pool, *, size=32, wait=0.0, parallel=1, seen=None):
        self.call, self.pool, self.size, self.wait = call, pool, size, wait
        self.parallel, self.seen = parallel, seen
        self.waiting, self.running = deque(), 0
        self.last = math.inf, 1  # seconds and rows of the last call

    async def run(self, inputs, timeout):
        """The outputs for a request's inputs.

        Raises:
            RestError: where the time is over, or the call fails.
        """
        request = _Waiting(inputs, time.monotonic() + timeout)
        self.waiting.append(request)
        if self.running < self.parallel:
            self.running += 1
            asyncio.ensure_future(self._work())
        try:
            async with asyncio.timeout(timeout):
                return await request.done
        except TimeoutError as error:
            raise RestError(f"Timed out after {timeout:g} seconds", "DEADLINE_EXCEEDED") from error

    async def _work(self):
        """Calls until nothing waits."""
        try:
            while self.waiting:
                await self._gather()
                if batch := self._taken():
                    await self._run(batch)
        finally:
            self.running -= 1

    async def _gather(self):
        """Lets in what has come already; waits until a call is full, or its time is over."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        until = time.monotonic() + self.wait
        while sum(r.rows for r in self.waiting) < self.size and time.monotonic() < until:
            await asyncio.sleep(min(0.0005, self.wait))

    def _taken(self):
        """The requests of the next call, out of the queue: the first, and those that fit to it."""
        batch, rows, left, now = [], 0, deque(), time.monotonic()
        while self.waiting:
            request = self.waiting.popleft()
            if request.done.done() or request.until < now:
                continue
            if batch and (rows + request.rows > self.size or request.shapes != batch[0].shapes):
                left.append(request)
                if rows + request.rows > self.size:
                    break
            else:
                batch.append(request)
                rows += request.rows
        self.waiting.extendleft(reversed(left))
        return batch

    async def _run(self, batch):
        try:
            if len(batch) == 1:
                results = [await self._called(batch[0].inputs, batch[0].rows)]
            else:
                rows = sum(request.rows for request in batch)
                results = _split(await self._called(_joined(batch), rows), batch)
        except Exception as error:
            if len(batch) > 1 and getattr(error, "status", 500) < 500:
                for request in batch:  # whose fault is it?
                    await self._run([request])
                return
            results = [error] * len(batch)
        for request, result in zip(batch, results):
            if request.done.done():
                continue
            if isinstance(result, Exception):
                request.done.set_exception(result)
            else:
                request.done.set_result(result)

    async def _called(self, inputs, rows):
        if self.seen:
            self.seen(rows)
        seconds, before = self.last
        if seconds * max(1, rows / before) < SHORT:
            return self._timed(inputs, rows)
        return await asyncio.get_running_loop().run_in_executor(
            self.pool, self._timed, inputs, rows)

    def _timed(self, inputs, rows):
        began = time.perf_counter()
        outputs = self.call(inputs)
        self.last = time.perf_counter() - began, max(1, rows)
        return outputs


def _joined(batch):
    return {name: np.concatenate([request.inputs[name] for request in batch])
            for name in batch[0].inputs}


def _split(outputs, batch):
    """The outputs of each request."""
    ends = np.cumsum([request.rows for request in batch])
    for name, value in outputs.items():
        if len(value) != ends[-1]:
            raise RestError(f"Tensor name: {name} has {len(value)} rows for {ends[-1]}",
                            "INTERNAL")
    return [{name: value[end - request.rows:end] for name, value in outputs.items()}
            for request, end in zip(batch, ends)]
