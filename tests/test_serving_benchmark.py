"""The load that `benchmarks.serving` makes: every request is counted once, as what it was."""

import asyncio
import itertools
import threading

import pytest

pytest.importorskip("uvloop", reason="the extra `serve` is not installed")

from benchmarks.serving_clients import closed, open_loop  # noqa: E402

ANSWERS = {status: b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status
           for status in (200, 503, 500)}


@pytest.fixture
def port():
    """A server that answers 200, 503, 500 in turn, in pieces, and hangs up at every fourth."""
    turns = itertools.cycle([200, 503, 500, None])

    async def serve(reader, writer):
        while await reader.readline():
            while (line := await reader.readline()) != b"\r\n":
                if line.startswith(b"content-length"):
                    size = int(line.split()[1])
            assert await reader.readexactly(size) == b"body"
            if (status := next(turns)) is None:
                break
            writer.write(ANSWERS[status][:9])
            await asyncio.sleep(0)
            writer.write(ANSWERS[status][9:])
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()


def test_requests_at_their_times(port):
    tally = open_loop(port, "/", b"body", 200, 0.5)
    assert 90 <= len(tally.seconds) + tally.refused + tally.lost <= 101
    assert abs(len(tally.seconds) - tally.refused) <= 1
    assert abs(tally.lost - 2 * tally.refused) <= 2  # 500s and those that were hung up on
    assert all(0 < seconds < 1 for seconds in tally.seconds)


def test_one_after_the_other(port):
    """A client whose connection ends is gone, and lost is one request."""
    tally = closed(port, "/", b"body", 1, 5)
    assert (len(tally.seconds), tally.refused, tally.lost) == (1, 1, 2)
    assert 0 < tally.took < 5


def test_no_server():
    with pytest.raises(OSError):
        closed(1, "/", b"body", 1, 0.1)
    tally = open_loop(1, "/", b"body", 100, 0.1)
    assert tally.lost > 0 and not tally.seconds
