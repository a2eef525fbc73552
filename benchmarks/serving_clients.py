"""Clients of a server that take little of the machine that it runs on: raw HTTP/1.1 over uvloop.

Written for answers with a content-length, one at a time on each connection.
"""

import asyncio
import re
import time
from collections import deque

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


def open_loop(port, path, body, rate, seconds, links=512):
    """The `Tally` of requests that come at their times, whatever happens to those before.

    They go through a pool of connections, as a gateway's do: to open thousands at once would
    measure how the kernel drops them. What comes while all are busy waits, and its time counts.
    """
    return uvloop.run(_open_loop(port, request_of(path, body), rate, seconds, links))


async def _open_loop(port, request, rate, seconds, links):
    tally, loop, due = Tally(), asyncio.get_running_loop(), deque()

    def answered(link, status):
        tally.count(link, status)
        if status is None:
            return
        if due:
            link.ask(due.popleft())
        else:
            idle.append(link)

    pool = [(await loop.create_connection(lambda: Link(request, answered), "127.0.0.1", port))[1]
            for _ in range(links)]
    idle = list(pool)
    began, sent = time.perf_counter(), 0
    total = round(rate * seconds)
    while sent < total:
        while sent < min(total, (time.perf_counter() - began) * rate):
            at, sent = began + sent / rate, sent + 1
            tally.behind = max(tally.behind, time.perf_counter() - at)
            if idle:
                idle.pop().ask(at)
            else:
                due.append(at)
        await asyncio.sleep(0.001)
    until = time.perf_counter() + LATEST
    while any(link.waits for link in pool) and time.perf_counter() < until:
        await asyncio.sleep(0.01)
    tally.took = time.perf_counter() - began
    tally.lost += len(due) + sum(link.waits for link in pool)
    for link in pool:
        link.waits = False
        link.transport.close()
    return tally
