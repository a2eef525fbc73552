"""Which requests are let in: their bytes, their seconds, and how many are worked on at a time."""

import asyncio

from app.server.errors import RestError

SMALL = 2**16  # bytes of a body that is not worth another thread, and that nobody counts
_BODIES = 8  # times the largest body: what all large ones may hold


class Admission:
    """The way in for requests whose answers take work.

    Args:
        queue: requests that are worked on or wait, at most.
        seconds: of one request, from its head to its answer.
        most: bytes of a body.

    Attributes:
        inside: requests that are worked on or wait. One whose body is still on its way takes no
            place, or slow clients would keep the others out.
        held: bytes of large bodies in memory, those on their way among them.
    """

    def __init__(self, queue, seconds, most):
        self.queue, self.seconds, self.most = queue, seconds, most
        self.inside = self.held = 0

    @property
    def full(self):
        return self.inside >= self.queue

    async def run(self, receive, work):
        """What `await work(body)` gives, of the body that ASGI's `receive` brings.

        Raises:
            RestError: where the request is too large, too late, or one too many.
        """
        self._check_queue()  # before anything is done for it
        body = None
        try:
            async with asyncio.timeout(self.seconds) as limit:
                body = await self._read(receive)
                self._check_queue()
                self.inside += 1
                try:
                    return await work(body)
                finally:
                    self.inside -= 1
        except TimeoutError as error:
            if not limit.expired():  # that of a disk, say
                raise
            if body is None:
                raise RestError(f"The request's body did not come within {self.seconds:g} "
                                "seconds", "REQUEST_TIMEOUT") from error
            raise RestError(f"Timed out after {self.seconds:g} seconds",
                            "DEADLINE_EXCEEDED") from error
        finally:
            self.held -= _held(body or b"")

    def _check_queue(self):
        if self.full:
            raise RestError(queue_is_full(self.queue), "UNAVAILABLE")

    async def _read(self, receive):
        """A body, whose bytes are held; what is too large is read and thrown away, to answer it."""
        body, size, held = bytearray(), 0, 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RestError("The client has gone", "CANCELLED")
                part = message.get("body", b"")
                size += len(part)
                if size <= self.most:
                    body += part
                else:
                    body.clear()
                self.held += _held(body) - held
                held = _held(body)
                if self.held > _BODIES * self.most:
                    raise RestError("The bodies of other requests take all the memory that "
                                    "there is for them", "UNAVAILABLE")
                if not message.get("more_body"):
                    break
            if size > self.most:
                raise RestError(f"The request has {size} bytes, more than the {self.most} that "
                                "are taken", "PAYLOAD_TOO_LARGE")
        except BaseException:
            self.held -= held
            raise
        return bytes(body)


def queue_is_full(queue):
    return f"{queue} requests wait already: the queue is full"


def _held(body):
    return len(body) if len(body) > SMALL else 0
