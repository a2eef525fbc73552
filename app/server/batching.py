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

    def __init__(self, inputs):
        self.inputs = inputs
        self.rows = max((len(value) for value in inputs.values() if value.ndim), default=1)
        self.shapes = {name: value.shape[1:] for name, value in inputs.items()}
        self.done = asyncio.get_running_loop().create_future()


class Batcher:
    """The calls of one signature of one version.

    Args:
        call: of {input: array} to {output: array}; it runs in a thread of `pool`, or where it is
            sure to be short in the event loop itself: two changes of thread take longer.
        size: rows of a call at most, but for a single request of more.
        wait: seconds that a call waits for more rows. Without it, whatever waits while a call
            runs goes into the next one.
        parallel: calls at a time.
        steady: whether each row takes as long as another. Else no call is sure to be short.
        seen: told the rows of each call.
    """

    def __init__(self, call, pool, *, size=32, wait=0.0, parallel=1, steady=False, seen=None):
        self.call, self.pool, self.size, self.wait = call, pool, size, wait
        self.parallel, self.steady, self.seen = parallel, steady, seen
        self.waiting, self.running = deque(), 0
        self.last = math.inf, 1  # seconds and rows of the last call
        self.alone = True  # whether the last call was of one request

    async def run(self, inputs):
        """The outputs for a request's inputs. A request that is cancelled leaves the queue.

        Raises:
            RestError: where the call fails.
        """
        request = _Waiting(inputs)
        if self._needs_no_queue(request):
            self.running += 1  # for one turn: those that have come with it share the next call
            asyncio.get_running_loop().call_soon(self._free)
            return self._timed(request.inputs, request.rows)
        self.waiting.append(request)
        self._begin()
        return await request.done

    def _needs_no_queue(self, request):
        """Whether there is nobody to share a call with, and no use for a thread."""
        return (self.alone and not self.wait and not self.waiting
                and self.running < self.parallel and self._is_short(request.rows))

    def _begin(self):
        """Lets another call begin, if one waits and may."""
        if self.waiting and self.running < self.parallel:
            self.running += 1
            asyncio.ensure_future(self._work())

    def _free(self):
        """Ends the time of a call."""
        self.running -= 1
        self._begin()

    async def _work(self):
        """Calls until nothing waits."""
        try:
            while self.waiting:
                await self._gather()
                if batch := self._taken():
                    self.alone = len(batch) == 1
                    await self._run(batch)
        finally:
            self._free()

    async def _gather(self):
        """Lets in what has come already; waits until a call is full, or its time is over."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        until = time.monotonic() + self.wait
        while sum(r.rows for r in self.waiting) < self.size and time.monotonic() < until:
            await asyncio.sleep(min(0.0005, self.wait))

    def _taken(self):
        """The requests of the next call, out of the queue: the first, and those that fit to it."""
        batch, rows, left = [], 0, deque()
        while self.waiting:
            request = self.waiting.popleft()
            if request.done.done():  # its time is over
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
        """One call for a batch; where it refuses the inputs, one for each half: whose fault is it?
        """
        try:
            results = await self._results(batch)
        except Exception as error:
            if len(batch) > 1 and getattr(error, "status", 500) < 500:
                middle = len(batch) // 2
                await self._run(batch[:middle])
                await self._run(batch[middle:])
                return
            results = [error] * len(batch)
        for request, result in zip(batch, results):
            if request.done.done():
                continue
            if isinstance(result, Exception):
                request.done.set_exception(result)
            else:
                request.done.set_result(result)

    async def _results(self, batch):
        """The outputs of each request."""
        if len(batch) == 1:
            return [await self._called(batch[0].inputs, batch[0].rows)]
        rows = sum(request.rows for request in batch)
        outputs = await self._called(_joined(batch), rows)
        if any(len(value) != rows for value in outputs.values()):
            self.size = 1  # other rows come out than its signature says: no call is shared again
            raise RestError(f"{rows} rows went in, and others came out")
        return _split(outputs, batch)

    async def _called(self, inputs, rows):
        if self._is_short(rows):
            return self._timed(inputs, rows)
        return await asyncio.get_running_loop().run_in_executor(
            self.pool, self._timed, inputs, rows)

    def _is_short(self, rows):
        seconds, before = self.last
        return self.steady and seconds * max(1, rows / before) < SHORT

    def _timed(self, inputs, rows):
        if self.seen:
            self.seen(rows)
        began = time.perf_counter()
        outputs = self.call(inputs)
        if rows:  # none at all say nothing of how long one takes
            self.last = time.perf_counter() - began, rows
        return outputs


def _joined(batch):
    return {name: np.concatenate([request.inputs[name] for request in batch])
            for name in batch[0].inputs}


def _split(outputs, batch):
    """The outputs of each request."""
    ends = np.cumsum([request.rows for request in batch])
    return [{name: value[end - request.rows:end] for name, value in outputs.items()}
            for request, end in zip(batch, ends)]
