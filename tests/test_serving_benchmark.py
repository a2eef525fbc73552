"""The load that `benchmarks.serving` makes: every request is counted once, as what it was."""

import asyncio
import itertools
import threading

import pytest

pytest.importorskip("uvloop", reason="the extra `serve` is not installed")

from benchmarks.serving import page  # noqa: E402
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
    tally = open_loop(port, "/", b"body", 200, 0.5, links=40)
    assert (len(tally.seconds), tally.refused) == (25, 25)
    assert tally.lost == 50  # 500s and those that were hung up on
    assert all(0 < seconds < 10 for seconds in tally.seconds)
    assert 0.49 <= tally.took and tally.behind < tally.took


def test_requests_that_find_no_connection(port):
    """The only one is hung up on at the fourth: those behind are lost, and none is forgotten."""
    tally = open_loop(port, "/", b"body", 100, 0.2, links=1)
    assert (len(tally.seconds), tally.refused) == (1, 1) and tally.lost == 18


def test_one_after_the_other(port):
    """A client whose connection ends is gone, and lost is one request."""
    tally = closed(port, "/", b"body", 1, 5)
    assert (len(tally.seconds), tally.refused, tally.lost) == (1, 1, 2)
    assert 0 < tally.took < 5


def test_no_server():
    with pytest.raises(OSError):
        closed(1, "/", b"body", 1, 0.1)
    with pytest.raises(OSError):
        open_loop(1, "/", b"body", 100, 0.1)


def test_the_page():
    figures = {"net": {
        "bare_ms": 0.5, "request_ms": 1.25,
        "floats": {"batching": 900.0, "without": 300.0, "LitServe": 150.0},
        "floats, CPU us": {"batching": 500.0, "without": 2000.0, "LitServe": 3000.0},
        "PNG": {"batching": 800.0, "without": 200.0},
        "PNG, CPU us": {"batching": 400.0, "without": 2000.0},
        "loads": {"4": {"rate": 2880.0, "answered": 850.0, "refused": 9000, "lost": 0,
                        "p50_ms": 300.0, "p99_ms": 400.0, "behind_ms": 2.0}}}}
    text = page(figures, "here")
    assert "| net | 0.50 | 1.25 | 0.75 |" in text
    assert "| net | floats | 900 (500) | 300 (2000) | 150 (3000) | 3.00 | 4.00 | 6.00 |" in text
    assert "| net | PNG | 800 (400) | 200 (2000) | - | 4.00 | 5.00 | - |" in text
    assert "| net | 4x | 2880 | 850 | 9000 | 0 | 300 | 400 | 2 |" in text
    assert "The bar, 3 times the answers without batching, is met." in text
    figures["net"]["floats"]["without"] = 301.0
    assert "is missed by net asked with floats: to read" in page(figures, "here")
