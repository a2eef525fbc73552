"""The page over HTTP: answers, and bad input as {"error": ...}."""

import asyncio
import base64
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image
from served_models import Client

from app.models import build
from app.page.model_viewer import ModelViewer
from app.page.packing import unpack

fastapi = pytest.importorskip("fastapi", reason="needs the extra `page`: FastAPI")
pytest.importorskip("httpx", reason="needs httpx")

LABELS = [str(i) for i in range(10)]
ZEROS = np.zeros((8, 8, 1)).tolist()


class Plain:
    """A viewer of an export without layers."""

    name, task, version = "plain", "classify", 3
    image_shape, labels = (8, 8, 1), ("a", "b")
    has_layers, backward = False, None

    def layers(self):
        return []

    def look(self, image):
        return np.array([0.25, 0.75]), []


class Diverged(Plain):
    name = "diverged"

    def look(self, image):
        return np.array([np.nan, np.nan]), []


@pytest.fixture(scope="module")
def client():
    from fastapi.testclient import TestClient

    from app.page.routes import Viewers, page_router

    app = fastapi.FastAPI()
    lenet = ModelViewer(build("lenet5", (8, 8, 1), 10), name="net", labels=LABELS)
    app.include_router(page_router(Viewers(lenet, Plain(), Diverged())))
    return TestClient(app)


def encoded(size, mode="L", suffix="png"):
    file = io.BytesIO()
    Image.new(mode, size, 255).save(file, suffix)
    return base64.b64encode(file.getvalue()).decode()


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text and "https://" not in page.text


def test_models_and_layers(client):
    net, plain, _ = client.get("/page/models").json()
    assert net == {"name": "net", "task": "classify", "version": None, "image_shape": [8, 8, 1],
                   "labels": LABELS, "layers": True, "backward": True}
    assert plain["version"] == 3 and not plain["layers"] and not plain["backward"]
    layers = client.get("/page/models/net").json()
    assert [layer["name"] for layer in layers][:3] == ["resize", "C1", "S2"]
    assert client.get("/page/models/plain").json() == []


def test_a_classifier_answers_nothing_else(client):
    for part, body in (("answer", {"image": {"b64": encoded((8, 8))}}), ("answer", {"seed": 1})):
        reply = client.post(f"/page/models/net/{part}", json=body)
        assert reply.status_code == 400 and "ask it at /look" in reply.json()["error"]


def test_look(client):
    answer = client.post("/page/models/net/look", json={"image": ZEROS}).json()
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert answer["label"] == LABELS[np.argmax(answer["probabilities"])]
    assert [unpack(packed).shape for packed in answer["activations"]][:2] == [
        (32, 32, 1), (28, 28, 6)]
    plain = client.post("/page/models/plain/look", json={"image": ZEROS}).json()
    assert plain["label"] == "b" and plain["activations"] == []


@pytest.mark.parametrize("size, mode, suffix", [
    ((8, 8), "L", "png"), ((31, 17), "RGB", "jpeg"), ((400, 3), "P", "gif"), ((9, 9), "RGB", "bmp"),
])
def test_look_at_a_file(client, size, mode, suffix):
    image = {"b64": encoded(size, mode, suffix)}
    answer = client.post("/page/models/net/look", json={"image": image})
    assert answer.status_code == 200, answer.text
    assert unpack(answer.json()["image"]).shape == (8, 8, 1)


def test_occlusion_and_backward(client):
    answer = client.post("/page/models/net/occlusion", json={"image": ZEROS, "label": "3"}).json()
    assert answer["label"] == "3" and np.shape(answer["probability"]) == (6, 6)
    answer = client.post("/page/models/net/backward", json={"image": ZEROS, "label": "3"}).json()
    assert unpack(answer["gradients"][-1]).tolist() == np.eye(10)[3].tolist()
    assert client.post("/page/models/net/backward", json={"image": ZEROS}).json()["label"] in LABELS


@pytest.mark.parametrize("body, reason", [
    (b"", "no JSON"), (b"{", "no JSON"), (b"[" * 10**5, "no JSON"), (b"\xff", "no JSON"),
    (b"[]", '"image"'), (b"{}", '"image"'), (b'{"image": null}', "shape (8, 8, 1)"),
    (b'{"image": [[1, 2], [3]]}', "different lengths"), (b'{"image": []}', "shape (8, 8, 1)"),
    (b'{"image": 1}', "shape (8, 8, 1)"), (b'{"image": {}}', "base64"),
    (b'{"image": {"b64": 7}}', "base64"), (b'{"image": {"b64": "?"}}', "base64"),
    (b'{"image": {"b64": ""}}', "the file is empty"),
    (b'{"image": {"b64": "aGVsbG8="}}', "not a PNG"),
    (b'{"image": {"b64": "iVBORw0KGgo="}}', "cannot be decoded"),
])
def test_bad_requests(client, body, reason):
    answer = client.post("/page/models/net/look", content=body)
    assert answer.status_code == 400 and set(answer.json()) == {"error"}
    assert reason in answer.json()["error"]


@pytest.mark.parametrize("value", [2, -0.5, "0.5", True, None, float("nan"), 10**400])
def test_pixels_out_of_range(client, value):
    import json

    image = json.loads(json.dumps(ZEROS))
    image[0][0][0] = value
    body = json.dumps({"image": [[[value]] * 8] * 8 if value is True else image})
    answer = client.post("/page/models/net/look", content=body)
    assert answer.status_code == 400 and "[0, 1]" in answer.json()["error"]


@pytest.mark.parametrize("path, body, status, reason", [
    ("other/look", {"image": ZEROS}, 404, "Known: net, plain"),
    ("net/backward", {"image": ZEROS, "label": "z"}, 400, '"label" must be one of 0, 1'),
    ("net/occlusion", {"image": ZEROS, "label": [1]}, 400, '"label" must be'),
    ("plain/backward", {"image": ZEROS}, 400, "no backward pass"),
    ("diverged/look", {"image": ZEROS}, 422, "NaN"),
])
def test_what_is_not_there(client, path, body, status, reason):
    answer = client.post(f"/page/models/{path}", json=body)
    assert answer.status_code == status and reason in answer.json()["error"]


def test_too_much_is_refused(client):
    answer = client.post("/page/models/net/look", content=b" " * (2**24 + 1))
    assert answer.status_code == 413 and "bytes" in answer.json()["error"]
    bomb = base64.b64encode(base64.b64decode(encoded((1, 1)))[:16]
                            + (2**15).to_bytes(4, "big") * 2 + bytes(9)).decode()
    answer = client.post("/page/models/net/look", json={"image": {"b64": bomb}})
    assert answer.status_code == 413 and "pixels" in answer.json()["error"]


class Slow(Plain):
    """Takes so many seconds for each look, and counts how many look at the same time."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.now, self.most, self.lock = 0, 0, threading.Lock()

    def look(self, image):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.lock:
            self.now -= 1
        return super().look(image)


@pytest.mark.parametrize("each, queue, seconds, body, expected", [
    (0.2, 8, 30.0, 2**20, [200] * 8), (0.2, 3, 30.0, 2**20, [200] * 3 + [503] * 5),
    (1.0, 8, 1.6, 2**20, [200] * 2 + [504] * 6), (0.2, 8, 30.0, 64, [413] * 8)])
def test_questions_that_come_at_once(each, queue, seconds, body, expected):
    """So many are answered at a time, wait, and for so long; none is larger than a request may be.
    """
    from app.page.routes import Viewers, page_router
    from app.server.admission import Admission

    slow, page = Slow(each), fastapi.FastAPI()
    page.include_router(page_router(Viewers(slow), Admission(queue, seconds, body), threads=2))
    client = Client(page)

    async def ask_all():
        return await asyncio.gather(*(client.asked(
            "POST", "/page/models/plain/look", {"image": ZEROS}) for _ in range(8)))

    found = [status for status, _, _ in asyncio.run(ask_all())]
    assert sorted(found) == expected and slow.most <= 2


def test_a_body_that_does_not_come():
    from app.page.routes import Viewers, page_router
    from app.server.admission import Admission

    page = fastapi.FastAPI()
    page.include_router(page_router(Viewers(Plain()), Admission(8, 0.1, 2**20)))

    async def ask():
        sent = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/page/models/plain/look",
                 "headers": [], "query_string": b""}
        await asyncio.wait_for(page(scope, asyncio.Future, send), 5)
        return sent[0]["status"]

    assert asyncio.run(ask()) == 408


def test_port_that_is_taken(handgrad):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = handgrad("page", "trained", "--port", port)
    assert code == 2 and f":{port} cannot be listened on" in err and "--port" in err


def test_unknown_run(handgrad):
    code, _, err = handgrad("page", "nothing")
    assert code == 2 and "Unknown run 'nothing'" in err
