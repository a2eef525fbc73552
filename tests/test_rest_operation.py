"""The server beside its answers: health, metrics, tokens, origins, limits, queues, times."""

import asyncio
import json
import time

import pytest
from served_models import Client, half, save

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from app.server.models import Models  # noqa: E402
from app.server.rest import Options, Rest  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(folder / "half" / "124", half(3.0))
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
        rest.inside = 1
        full.set()
        return await asyncio.wait_for(asyncio.gather(ask(never), waiting), 5)

    assert asyncio.run(both()) == [503, 503]
    rest.inside = 0
    assert client.json("POST", "/v1/models/half:predict", {"instances": [1.0]})[0] == 200


def test_a_request_that_takes_too_long(folder):
    rest = server(folder, timeout=0.1)
    client = Client(rest)
    rest.models.get("half").call = lambda *given: time.sleep(0.5)
    status, answer = client.json("POST", "/v1/models/half:predict", {"instances": [1.0]})
    assert status == 504 and "Timed out after 0.1 seconds" in answer["error"]
