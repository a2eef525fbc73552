"""Encoded images over REST: those that are answered, and those that are not decoded."""

import asyncio
import base64
import re

import pytest
import tensorflow as tf
from served_models import Client, pictures, save

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from app.server import encoded_images  # noqa: E402
from app.server.models import Models  # noqa: E402
from app.server.rest import Options, Rest  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(folder / "pictures" / "1", pictures, {"judged": "classify"})
    return folder


def looked(folder):
    models = Models(folder)
    models.look()
    models.look()
    return models


@pytest.fixture(scope="module")
def client(folder):
    return Client(Rest(looked(folder), Options(body=10**6)))


def png(height, width):
    return tf.io.encode_png(tf.fill((height, width, 1), tf.constant(7, tf.uint8))).numpy()


def b64(contents):
    return {"b64": base64.b64encode(contents).decode()}


def bomb():
    """20,000 by 20,000 pixels in a header, and nothing behind it."""
    return png(1, 1).replace(b"\x00\x00\x00\x01\x00\x00\x00\x01", b"\x00\x00\x4e\x20" * 2, 1)


@pytest.mark.parametrize("contents, message", [
    (b"no image", "Image 0 of `image_bytes` cannot be decoded: not a PNG"),
    (b"", "the file is empty"), (bomb(), "more than the 67108864 pixels"),
    (png(9, 9)[:40], "Input image|truncated|decode|incomplete"),
])
def test_images_that_are_refused(client, contents, message):
    status, answer = client.json("POST", "/v1/models/pictures:predict", {
        "instances": [b64(contents)]})
    assert status == 400 and re.search(message, answer["error"]), answer


def test_images(client):
    assert client.json("POST", "/v1/models/pictures:predict", {
        "instances": [b64(png(2, 3)), b64(png(5, 1))]}) == (200, {"predictions": [7.0, 7.0]})


def test_one_bad_image_fails_no_other(client):
    """Though they share a call."""
    async def ask_all():
        cut = png(9, 9)[:-25]
        return await asyncio.gather(*(client.asked(
            "POST", "/v1/models/pictures:predict", {"instances": [b64(contents)]})
            for contents in (png(2, 2), png(3, 3), cut, png(4, 4))))

    assert [status for status, _, _ in asyncio.run(ask_all())] == [200, 200, 400, 200]


def example(contents):
    """A serialised example with an image, as TensorFlow reads it.

    The feature has a number behind the image: protobuf's own parser would see that alone.
    """
    def field(value):
        """Bytes as field 1 of a message."""
        return tf.train.BytesList(value=[value]).SerializeToString()

    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents])).SerializeToString()
    number = tf.train.Feature(float_list=tf.train.FloatList(value=[1])).SerializeToString()
    assert not tf.train.Feature.FromString(image + number).bytes_list.value
    as_field_2 = b"\x12" + field(image + number)[1:]
    return field(field(field(b"image_bytes") + as_field_2))


def test_images_in_examples(client):
    body = {"examples": [{"image_bytes": b64(png(2, 3))}, {"image_bytes": b64(png(1, 1))}]}
    answer = {"results": [[["mean", 7.0]], [["mean", 7.0]]]}
    assert client.json("POST", "/v1/models/pictures:classify", body) == (200, answer)
    body = {"instances": [b64(example(png(2, 3)))], "signature_name": "judged"}
    assert client.json("POST", "/v1/models/pictures:predict", body)[0] == 200


@pytest.mark.parametrize("path, body", [
    ("v1/models/pictures:classify", {"examples": [{"image_bytes": b64(bomb())}]}),
    ("v1/models/pictures:predict", {
        "instances": [b64(example(bomb()))], "signature_name": "judged"}),
    ("v2/models/pictures/infer", {"parameters": {"signature_name": "judged"}, "inputs": [{
        "name": "inputs", "shape": [1], "datatype": "BYTES",
        "parameters": {"content_type": "base64"}, "data": [b64(example(bomb()))["b64"]]}]}),
])
def test_too_many_pixels_in_examples(client, path, body):
    status, answer = client.json("POST", f"/{path}", body)
    assert status == 400 and "more than the 67108864 pixels" in answer["error"]


def test_large_images_share_no_call(folder, monkeypatch):
    """Those of one call have together no more pixels than those of one request may have."""
    monkeypatch.setattr(encoded_images, "MAX_PIXELS", 100)
    models = looked(folder / "pictures")
    client, loaded, rows = Client(Rest(models, Options(batch=4))), models.get("pictures"), []
    call = loaded.call

    def counted(signature, inputs):
        rows.append(len(inputs["image_bytes"]))
        return call(signature, inputs)

    async def ask_all(side):
        body = {"instances": [b64(png(side, side))]}
        return await asyncio.gather(*(
            client.asked("POST", "/v1/models/pictures:predict", body) for _ in range(4)))

    loaded.call = counted
    for side, expected in ((5, [4]), (6, [1, 1, 1, 1])):
        assert [status for status, _, _ in asyncio.run(ask_all(side))] == [200] * 4
        assert rows == expected
        rows.clear()
    assert [status for status, _, _ in asyncio.run(ask_all(11))] == [400] * 4 and not rows
