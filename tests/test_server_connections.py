"""Connections: what clients that are slow, greedy or wrong get, in this process."""

import asyncio
import contextlib
import json
import re
import time
from functools import partial

import pytest
from served_models import half, save

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

import uvicorn  # noqa: E402
from uvicorn.server import ServerState  # noqa: E402

from app.server.command import configuration  # noqa: E402
from app.server.models import Models  # noqa: E402
from app.server.protocol import Protocol  # noqa: E402
from app.server.rest import Options, Rest  # noqa: E402


@contextlib.asynccontextmanager
async def connected(config):
    """(reader, writer) of a connection to an application that is served in this process."""
    config.load()
    listening = await asyncio.get_running_loop().create_server(
        lambda: config.http_protocol_class(config=config, server_state=ServerState(), app_state={}),
        "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        listening.close()


def talked(application, *sent, pause=0.0, keep_alive=5):
    """All that comes until the connection ends, of what is sent with pauses until then."""
    async def talk():
        config = uvicorn.Config(application, ws="none", timeout_keep_alive=keep_alive,
                                http=partial(Protocol, head_seconds=0.2))
        async with connected(config) as (reader, writer):
            answers = asyncio.ensure_future(reader.read())
            for part in sent:
                if not answers.done():
                    writer.write(part)
                    await asyncio.sleep(pause)
            return await asyncio.wait_for(answers, 5)

    return asyncio.run(talk())


async def done(scope, receive, send):
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})


async def done_late(scope, receive, send):
    await asyncio.sleep(0.5)
    await done(scope, receive, send)


async def done_with_a_body(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await done(scope, receive, send)


@pytest.mark.parametrize("rest", [b"GET / HT", b"\x00nonsense\r\n\r\n"])
def test_half_a_head_and_nonsense_behind_a_request_that_runs(rest):
    """The request is answered, and then the connection ends."""
    answers = talked(done_late, b"GET / HTTP/1.1\r\n\r\n" + rest)
    assert answers.startswith(b"HTTP/1.1 200 ") and answers.endswith(b"\r\n\r\ndone")
    assert answers.count(b"HTTP/1.1") == 1


def test_a_body_that_is_no_http():
    """It is answered at once: the rest of it will not come."""
    answer = talked(done_with_a_body, b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
                    b"nonsense\r\n", pause=0.1)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("head, answered", [
    (b"", b""), (b"POST / HTTP/1.1\r\ncontent-length: 1000\r\n\r\n", b"done")])
def test_bytes_that_begin_no_request_keep_no_connection(head, answered):
    """Empty lines, and a body that comes behind its answer."""
    began = time.monotonic()
    answer = talked(done, head, *[b"\r\n"] * 40, pause=0.1, keep_alive=0.55)
    assert answer.endswith(answered) and time.monotonic() - began < 3


def test_requests_that_are_sent_without_awaiting_answers():
    """Some wait in line, and are answered; the connection of more of them ends."""
    asked = []

    async def counted(scope, receive, send):
        asked.append(scope)
        await done(scope, receive, send)

    answers = talked(counted, b"GET / HTTP/1.1\r\n\r\n" * 5_000)
    assert answers.count(b"HTTP/1.1 200 ") == len(asked) == 17


def test_a_full_queue_costs_little(tmp_path):
    """A call is refused without a task, and counted; the connection goes on."""
    save(tmp_path / "half" / "1", half())
    models = Models(tmp_path)
    models.look()
    models.look()
    rest, head = Rest(models, Options(queue=2)), b"%s %s HTTP/1.1\r\n%s\r\n"
    call = head % (b"POST", b"/v1/models/half:predict", b"content-length: 20\r\n")

    async def talk():
        found = []

        async def ask(request):
            writer.write(request)
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            length = int(re.search(rb"content-length: (\d+)", answer)[1])
            found.append((int(answer.split()[1]), await reader.readexactly(length)))

        async with connected(configuration(rest)) as (reader, writer):
            rest.admission.inside = 2
            await ask(call)
            await ask(b'{"instances": [1.0]}' + head % (b"GET", b"/healthz", b""))
            rest.admission.inside = 0
            await ask(call + b'{"instances": [1.0]}')
            await ask(head % (b"GET", b"/metrics", b""))
        return found

    found = asyncio.run(talk())
    assert [status for status, _ in found] == [503, 200, 200, 200]
    assert json.loads(found[0][1]) == {"error": "2 requests wait already: the queue is full"}
    assert b'handgrad_requests_total{model="half",status="503"} 1.0' in found[3][1]


def test_the_server_speaks_http_alone(tmp_path):
    """No WebSockets, and nothing that the page or another program could switch on beside it."""
    save(tmp_path / "half" / "1", half())
    config = configuration(Rest(Models(tmp_path), Options()))
    config.load()
    assert config.ws_protocol_class is None and not config.proxy_headers
    assert config.lifespan_class.__name__ == "LifespanOff"
