"""Clients of a server that take little of the machine that it runs on: raw HTTP/1.1 over uvloop.

Written for answers with a content-length, one at a time on each connection.
"""

import asyncio
import re
import time

import uvloop

LATEST = 30.0  # seconds after which an answer counts as lost
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Link(asyncio.Protocol):
    """A connection: `ask` sends the request, `answered(link, status)` is called in the end.

    The status is None where the connection ends instead; `sent` is when it was asked.
    """

    def __init__(self, request, answered):
        self.request, self.answered = request, answered
        self.waits, self.sent, self.came = False, None, b""

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, due=None):
        self.waits, self.sent, self.came = True, due or time.perf_counter(), b""
        self.transport.write(self.request)

    def data_received(self, data):
        self.came += data
        head, whole, body = self.came.partition(b"\r\n\r\n")
        if whole and len(body) >= int(_LENGTH.search(head)[1]):
            self.waits = False
            self.answered(self, int(head.split(None, 2)[1]))

    def connection_lost(self, error):
        if self.waits:
            self.waits = False
            self.answered(self, None)


class Tally:
    """seconds: of each answer; refused: how many by 503; lost: without an answer, or another.

    took: seconds until the last answer; behind: the most that the client itself was late, which
    is part of `seconds`.
    """

    def __init__(self):
        self.seconds, self.refused, self.lost, self.took, self.behind = [], 0, 0, 0.0, 0.0

    def count(self, link, status):
        if status == 200:
            self.seconds.append(time.perf_counter() - link.sent)
        elif status == 503:
            self.refused += 1
        else:
            self.lost += 1


def request_of(path, body):
    return (f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n").encode() + body


def closed(port, path, body, clients, seconds):
    """The `Tally` of clients that ask again and again."""
    return uvloop.run(_closed(port, request_of(path, body), clients, seconds))


async def _closed(port, request, clients, seconds):
    tally, loop, over = Tally(), asyncio.get_running_loop(), asyncio.Event()
    asking = clients

    def answered(link, status):
        nonlocal asking
        tally.count(link, status)
        if status and time.perf_counter() - began < seconds:
            return link.ask()
        link.transport.close()
        asking -= 1
        if not asking:
            over.set()

    links = [(await loop.create_connection(lambda: Link(request, answered), "127.0.0.1", port))[1]
             for _ in range(clients)]
    began = time.perf_counter()
    for link in links:
        link.ask()
    await asyncio.wait_for(over.wait(), seconds + LATEST)
    tally.took = time.perf_counter() - began
    return tally


def open_loop(port, path, body, rate, seconds):
    """The `Tally` of requests that come at their times, whatever happens to those before."""
    return uvloop.run(_open_loop(port, request_of(path, body), rate, seconds))


async def _open_loop(port, request, rate, seconds):
    tally, loop, idle, waiting, opening = Tally(), asyncio.get_running_loop(), [], set(), set()

    def answered(link, status):
        waiting.discard(link)
        tally.count(link, status)
        if status:
            idle.append(link)

    async def first(due):
        try:
            _, link = await loop.create_connection(lambda: Link(request, answered),
                                                   "127.0.0.1", port)
        except OSError:
            tally.lost += 1
            return
        waiting.add(link)
        link.ask(due)

    began, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - began) < seconds:
        while sent < now * rate:
            due, sent = began + sent / rate, sent + 1
            tally.behind = max(tally.behind, time.perf_counter() - due)
            while idle and idle[-1].transport.is_closing():
                idle.pop()
            if idle:
                waiting.add(link := idle.pop())
                link.ask(due)
            else:
                opening.add(task := loop.create_task(first(due)))
                task.add_done_callback(opening.discard)
        await asyncio.sleep(0.001)
    until = time.perf_counter() + LATEST
    while (waiting or opening) and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    tally.lost += len(waiting) + len(opening)
    tally.took = time.perf_counter() - began
    for link in [*idle, *waiting]:
        link.waits = False
        link.transport.close()
    return tally
