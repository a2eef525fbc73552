"""Whatever clients send, the server answers in JSON, blames them and not itself, and goes on."""

import asyncio
import json
import random
import re
import socket

import psutil
import pytest
from served_models import Client, half, judges, pictures, save, two, types
from test_server_process import serving

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from app.server.models import Models  # noqa: E402
from app.server.rest import Rest  # noqa: E402

METHODS = ["POST"] * 12 + ["GET"] * 4 + ["PUT", "DELETE", "HEAD", "OPTIONS", "\u00c4"]
NAMES = ["half", "two", "types", "pictures", "judges", "none", "h%61lf", "%", "%ff", "..", "a b"]
SIGNATURES = ["serving_default", "float32", "int8", "uint64", "bool", "string", "encoded", "scalar",
              "uneven", "divided", "judge", "measure", "", "no such", 3, None, []]
LEAVES = [0, 1, -1, 0.5, 1e308, 2**63, 2**64, 10**40, -2**31, True, False, None, "", "text", "ä",
          "\ud800", "\x00", "NaN", float("nan"), float("inf"), {"b64": "aGk="}, {"b64": "?"},
          {"b64": 1}, {"b64": "a", "c": 1}, {}, []]

ANSWERED = [
    ("half:predict", {"instances": [1.0, 2]}), ("half:predict", {"inputs": {"x": [0.5]}}),
    ("two:predict", {"instances": [{"a": [1, 2], "b": 3}]}), ("half", {}), ("two/metadata", {}),
    ("types:predict", {"inputs": [[1, 2]], "signature_name": "int8"}),
    ("judges:classify", {"examples": [{"x": 0.5}]}), ("judges:regress", {"examples": [{}]}),
]


def value(draw, depth=0):
    """Nested lists and objects, often regular."""
    kind = draw.random()
    if depth > 4 or kind < 0.4:
        return draw.choice(LEAVES)
    if kind < 0.6:
        return [draw.choice(LEAVES)] * draw.randrange(5)
    if kind < 0.8:
        return [value(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind < 0.9:
        return [[draw.random()] * draw.randrange(1, 3)] * draw.randrange(1, 4)
    keys = draw.sample(["x", "a", "b", "image_bytes", "b64", "more"], draw.randrange(1, 4))
    return {key: value(draw, depth + 1) for key in keys}


def request(draw):
    """(method, path, body)"""
    path = f"/v1/models/{draw.choice(NAMES)}"
    path += draw.choice(["", "", "", "", "/versions/1", "/versions/999999999999999999999",
                         "/versions/x", "/labels/x", "/labels/"])
    path += draw.choice([":predict"] * 8 + [":classify", ":regress", "", "/metadata", ":", "/"])
    if draw.random() < 0.03:
        path = "/" + "".join(map(chr, draw.choices(range(33, 127), k=draw.randrange(30))))
    body = {draw.choice(["instances"] * 3 + ["inputs"] * 2 + ["examples", "context", "x"]):
            value(draw) for _ in range(draw.choice([0, 1, 1, 1, 1, 2]))}
    if draw.random() < 0.5:
        body["signature_name"] = draw.choice(SIGNATURES)
    text = json.dumps(body).encode()
    method = draw.choice(METHODS)
    if draw.random() < 0.2:
        end, body = draw.choice(ANSWERED)
        method = "POST" if body else "GET"
        path, text = f"/v1/models/{end}", json.dumps(body).encode()
    kind = draw.random()
    if kind < 0.15 and text:  # a byte changed
        at = draw.randrange(len(text))
        text = text[:at] + bytes([draw.randrange(256)]) + text[at + 1:]
    elif kind < 0.25:  # cut
        text = text[:draw.randrange(len(text) + 1)]
    elif kind < 0.3:
        text = draw.randbytes(draw.randrange(200))
    elif kind < 0.31:
        text = draw.choice([b"[", b'{"a":', b'{"instances":[']) * draw.randrange(20_000)
    return method, path, text


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_generated_requests(tmp_path, count):
    for name, signatures in (("half", half()), ("two", two), ("types", types),
                             ("pictures", pictures)):
        save(tmp_path / name / "1", signatures)
    save(tmp_path / "judges" / "1", judges, {"judge": "classify", "measure": "regress"})
    models = Models(tmp_path)
    models.look()
    models.look()
    client, draw, seen, held = Client(Rest(models)), random.Random(count), {}, []

    async def ask_all():
        for i in range(count):
            method, path, body = request(draw)
            status, headers, answer = await asyncio.wait_for(
                client.asked(method, path, body, pieces=draw.choice([1, 1, 3])), 20)
            seen[status] = seen.get(status, 0) + 1
            assert status < 500 or status == 501, (method, path, body, answer)
            if method != "HEAD" and answer and headers[b"content-type"] == b"application/json":
                known = json.loads(answer)
                assert status == 200 or list(known) == ["error"], (method, path, body, answer)
            if i in (count // 2, count - 1):
                held.append(psutil.Process().memory_info().rss)

    asyncio.run(ask_all())
    assert seen[200] > count / 20 and seen[400] > count / 4 and seen[404] > count / 100, seen
    assert held[1] - held[0] < 50e6, held
    assert client.json("POST", "/v1/models/half:predict", {"instances": [1.0]})[0] == 200


@pytest.mark.parametrize("count", [300, pytest.param(5_000, marks=pytest.mark.slow)])
def test_raw_bytes(tmp_path, count):
    """What is no HTTP, or is cut, or has wrong lengths, through a real socket."""
    save(tmp_path / "half" / "1", half())
    draw = random.Random(7)
    good = (b"POST /v1/models/half:predict HTTP/1.1\r\nhost: a\r\ncontent-length: 20\r\n\r\n"
            b'{"instances": [1.0]}')
    with serving(tmp_path) as server:
        for _ in range(count):
            sent = bytearray(good)
            for _ in range(draw.randrange(4)):
                at = draw.randrange(len(sent))
                sent[at:at + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
            if draw.random() < 0.2:
                sent = draw.randbytes(draw.randrange(300))
            with socket.create_connection(("127.0.0.1", server.port), 20) as link:
                link.sendall(sent)
                link.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: link.recv(65536), b""))
            if answer:
                head, _, body = answer.partition(b"\r\n\r\n")
                status = int(head.split()[1])
                assert status < 500, (sent, answer)
                size = int(re.search(rb"content-length: (\d+)", head)[1])  # another may follow
                assert status == 200 or list(json.loads(body[:size])) == ["error"]
        assert server.ask({"instances": [1.0]}) == (200, {"predictions": [2.5]})
