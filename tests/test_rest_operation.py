"""The server beside its answers: health, metrics, tokens, origins, limits, queues, times."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from served_models import Client, half, pictures, save
from test_rest_images import b64, png

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from app.server import batching  # noqa: E402
from app.server.batching import Batcher  # noqa: E402
from app.server.errors import RestError  # noqa: E402
from app.server.models import Models  # noqa: E402
from app.server.rest import Options, Rest  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(folder / "half" / "124", half(3.0))
    save(folder / "pictures" / "1", pictures)
    return folder


def server(folder, **options):
    """The application, with its model loaded."""
    models = Models(folder)
    models.look()
    models.look()
    return Rest(models, Options(**options))


@pytest.fixture(scope="module")
def client(folder):
    return Client(server(folder, body=10**6))


def test_health_and_metrics(client):
    assert client.json("GET", "/healthz") == (200, {"status": "ok"})
    client.ask("POST", "/v1/models/half:predict", {"instances": [1.0]})
    client.ask("POST", "/v1/models/made-up:predict", {"instances": [1.0]})
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        status, headers, body = client.ask("GET", path)
        assert status == 200 and headers[b"content-type"].startswith(b"text/plain")
    text = body.decode()
    assert 'handgrad_requests_total{model="half",status="200"}' in text
    assert 'handgrad_model_version{model="half"} 124.0' in text and "made-up" not in text


def test_a_token(folder):
    client = Client(server(folder, token="secret"))
    body = {"instances": [1.0]}
    for headers in ((), [("Authorization", "secret")], [("Authorization", "Bearer other")]):
        status, more, answer = client.ask("POST", "/v1/models/half:predict", body, headers)
        assert status == 401 and "token" in json.loads(answer)["error"]
        assert more[b"www-authenticate"] == b"Bearer"
        assert client.ask("GET", "/metrics", headers=headers)[0] == 401
    assert client.json("POST", "/v1/models/half:predict", body,
                       headers=[("Authorization", "Bearer secret")])[0] == 200
    assert client.json("GET", "/healthz")[0] == 200


def test_other_origins(client, folder):
    origin = [("Origin", "https://example.org")]
    _, headers, _ = client.ask("OPTIONS", "/v1/models/half:predict", headers=origin)
    assert not any(name.startswith(b"access-control") for name in headers)
    allowed = Client(server(folder, cors=True))
    status, headers, _ = allowed.ask("OPTIONS", "/v1/models/half:predict", headers=origin)
    assert status == 200 and headers[b"access-control-allow-origin"] == b"*"
    _, headers, _ = allowed.ask("POST", "/v1/models/half:predict", {"instances": [1.0]}, origin)
    assert headers[b"access-control-allow-origin"] == b"*"


def test_a_body_in_pieces_and_one_too_large(client):
    body = {"instances": [1.0] * 1000}
    status, answer = client.json("POST", "/v1/models/half:predict", body, pieces=50)
    assert status == 200 and len(answer["predictions"]) == 1000
    status, answer = client.json("POST", "/v1/models/half:predict", b" " * 1_000_001, pieces=9)
    assert status == 413 and "1000001 bytes, more than the 1000000" in answer["error"]


def test_a_full_queue_and_requests_that_share_calls(folder):
    """Of 40 requests at once, 9 go into calls and the others are refused at once."""
    rest = server(folder, batch=4, queue=9)
    client, calls = Client(rest), []
    loaded = rest.models.get("half")
    call = loaded.call

    def counted(signature, inputs):
        calls.append(len(inputs["x"]))
        time.sleep(0.2)
        return call(signature, inputs)

    loaded.call = counted

    async def ask_all():
        return await asyncio.gather(*(client.asked(
            "POST", "/v1/models/half:predict", {"instances": [float(i)]}) for i in range(40)))

    answers = asyncio.run(ask_all())
    answered = [json.loads(body)["predictions"] for status, _, body in answers if status == 200]
    assert answered == [[i / 2 + 3] for i in range(9)] and calls == [4, 4, 1]
    refused = [json.loads(body)["error"] for status, _, body in answers if status == 503]
    assert len(refused) == 31 and all("queue is full" in message for message in refused)


def test_a_full_queue_refuses_before_and_behind_a_body(folder):
    """One whose body never comes is refused all the same; so is one that was let in to send it."""
    rest = server(folder, queue=1)
    client, full = Client(rest), asyncio.Event()

    async def ask(receive):
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/models/half:predict", "headers": []}
        await rest(scope, receive, send)
        return sent[0]["status"]

    async def never():
        return await asyncio.Future()

    async def late():
        await full.wait()
        return {"type": "http.request", "body": b'{"instances": [1.0]}'}

    async def both():
        waiting = asyncio.ensure_future(ask(late))
        await asyncio.sleep(0)
        rest.admission.inside = 1
        full.set()
        return await asyncio.wait_for(asyncio.gather(ask(never), waiting), 5)

    assert asyncio.run(both()) == [503, 503]
    rest.admission.inside = 0
    assert client.json("POST", "/v1/models/half:predict", {"instances": [1.0]})[0] == 200


def test_a_request_that_takes_too_long(folder):
    rest = server(folder, timeout=0.1)
    client = Client(rest)
    rest.models.get("half").call = lambda *given: time.sleep(0.5)
    status, answer = client.json("POST", "/v1/models/half:predict", {"instances": [1.0]})
    assert status == 504 and "Timed out after 0.1 seconds" in answer["error"]


def test_no_request_waits_for_ever_to_be_parsed(folder):
    """The time is that of the whole request."""
    rest = server(folder, timeout=0.1)
    rest._parsed = lambda *given: time.sleep(0.5)
    status, answer = Client(rest).json("POST", "/v1/models/half:predict",
                                       {"instances": [1.0] * 20_000})
    assert status == 504 and "Timed out after 0.1 seconds" in answer["error"]


def test_large_bodies_take_their_places_before_they_are_parsed(folder):
    client = Client(server(folder, queue=1))

    async def ask_all():
        return await asyncio.gather(*(client.asked("POST", "/v1/models/half:predict", {
            "instances": [1.0] * 20_000}) for _ in range(3)))

    assert [status for status, _, _ in asyncio.run(ask_all())] == [200, 503, 503]


def test_bodies_on_their_way_hold_only_so_many_bytes(folder):
    """What is small is answered all the same; what has ended holds nothing."""
    rest = server(folder, body=100_000)
    client, gone = Client(rest), asyncio.Event()

    async def begun():
        """A request whose client sends most of its body, and then goes."""
        coming = [{"type": "http.request", "body": b" " * 99_000, "more_body": True}]
        sent = []

        async def receive():
            if coming:
                return coming.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/models/half:predict", "headers": []}
        await rest(scope, receive, send)
        return sent[0]["status"]

    async def ask_all():
        waiting = [asyncio.ensure_future(begun()) for _ in range(8)]
        await asyncio.sleep(0.01)
        found = [await begun()]
        for body in ({"instances": [1.0]}, {"instances": [1.0] * 19_000}):
            found.append((await client.asked("POST", "/v1/models/half:predict", body))[0])
        gone.set()
        await asyncio.gather(*waiting)
        found.append((await client.asked("POST", "/v1/models/half:predict", body))[0])
        return found

    assert asyncio.run(ask_all()) == [503, 200, 503, 200] and rest.admission.held == 0


def test_what_takes_time_is_never_called_in_the_event_loop(folder, monkeypatch):
    """Images are of any size: that the last one was quickly done says nothing of the next."""
    monkeypatch.setattr(batching, "SHORT", 60)  # however busy the machine is
    rest = server(folder)
    client, inline = Client(rest), []
    for name, row in (("half", 1.0), ("pictures", b64(png(2, 3)))):
        loaded = rest.models.get(name)
        call, path = loaded.call, f"/v1/models/{name}:predict"

        def noted(signature, inputs, call=call):
            inline.append(threading.current_thread() is threading.main_thread())
            return call(signature, inputs)

        loaded.call = noted
        for _ in range(3):
            assert client.json("POST", path, {"instances": [row]})[0] == 200
    assert inline == [False, True, True, False, False, False]


class Calls:
    """A call that notes its numbers of rows and refuses negative ones."""

    def __init__(self, seconds=0.0):
        self.rows, self.seconds = [], seconds

    def __call__(self, inputs):
        self.rows.append(len(inputs["x"]))
        time.sleep(self.seconds * len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise RestError("negative")
        return {"y": 2 * inputs["x"]}

    def batcher(self, **more):
        return Batcher(self, ThreadPoolExecutor(1), steady=True, **more)


def rows(*values):
    return {"x": np.array(values, np.float32)}


def test_a_request_that_comes_alone_waits_for_nobody(monkeypatch):
    """Those that come at once share calls as ever."""
    monkeypatch.setattr(batching, "SHORT", 60)  # however busy the machine is
    calls = Calls()

    async def ask():
        batcher = calls.batcher()
        await batcher.run(rows(1.0))
        await asyncio.sleep(0.01)
        with pytest.raises(StopIteration) as answer:  # at its first step
            batcher.run(rows(2.0)).send(None)
        assert answer.value.value["y"] == [4.0]
        for _ in range(2):
            await asyncio.sleep(0.01)
            found = await asyncio.gather(*(batcher.run(rows(i)) for i in range(32)))
            assert [outputs["y"] for outputs in found] == [2 * i for i in range(32)]

    asyncio.run(ask())
    assert calls.rows == [1, 1, 1, 31, 32]


def test_how_long_a_row_takes_is_not_learnt_from_none():
    """Else the next call would be believed to be short, and hold up the event loop."""
    calls = Calls(seconds=0.02)

    async def ask():
        batcher = calls.batcher()
        for given in ((1.0,), (), (1.0,)):
            await batcher.run(rows(*given))
        return batcher._is_short(1)

    assert not asyncio.run(ask())


def test_one_bad_request_is_found_by_halves():
    calls = Calls()

    async def ask():
        batcher = calls.batcher()
        return await asyncio.gather(*(batcher.run(rows(-1.0 if i == 20 else 1.0))
                                      for i in range(32)), return_exceptions=True)

    found = asyncio.run(ask())
    assert [isinstance(answer, RestError) for answer in found] == [i == 20 for i in range(32)]
    assert len(calls.rows) == 11


def test_errors_of_ours_are_told_once(folder, capsys):
    rest = server(folder)
    rest.models.get("half").call = lambda *given: {}["no output"]
    for _ in range(3):
        status, answer = Client(rest).json("POST", "/v1/models/half:predict", {"instances": [1.0]})
        assert status == 500 and "no output" in answer["error"]
    assert capsys.readouterr().err.count("KeyError: 'no output'") == 1
