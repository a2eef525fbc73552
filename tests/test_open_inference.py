"""The Open Inference Protocol at /v2, form by form of its specification."""

import base64

import numpy as np
import pytest
from served_models import Client, half, pictures, save, two, types
from test_rest_images import png

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from app.server.models import Models  # noqa: E402
from app.server.rest import Options, Rest  # noqa: E402


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(folder / "half" / "123", half())
    save(folder / "two" / "1", two)
    save(folder / "types" / "1", types)
    save(folder / "pictures" / "1", pictures)
    models = Models(folder)
    models.look()
    models.look()
    return Client(Rest(models, Options()))


def x(data, shape, datatype="FP32", name="x", **more):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}


def y(data, shape, datatype="FP32", name="y"):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


@pytest.mark.parametrize("path, expected", [
    ("/v2/health/live", {"live": True}),
    ("/v2/health/ready", {"ready": True}),
    ("/v2/models/half/ready", {"name": "half", "ready": True}),
    ("/v2/models/half/versions/123/ready", {"name": "half", "ready": True}),
    ("/v2/models/half", {
        "name": "half", "versions": ["123"], "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}]}),
    ("/v2/models/two/versions/1", {
        "name": "two", "versions": ["1"], "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "a", "datatype": "FP32", "shape": [-1, 2]},
                   {"name": "b", "datatype": "INT32", "shape": [-1]}],
        "outputs": [{"name": "difference", "datatype": "FP32", "shape": [-1, 2]},
                    {"name": "sum", "datatype": "FP32", "shape": [-1, 2]}]}),
])
def test_health_and_metadata(client, path, expected):
    assert client.json("GET", path) == (200, expected)


def test_server_metadata(client):
    status, answer = client.json("GET", "/v2")
    assert status == 200 and answer.keys() == {"name", "version", "extensions"}
    assert answer["name"] == "handgrad"


@pytest.mark.parametrize("path", ["/v2/models/none", "/v2/models/half/versions/7/ready",
                                  "/v2/models/none/ready", "/v2/model/half", "/v2/models"])
def test_what_is_not_there(client, path):
    status, answer = client.json("GET", path)
    assert status == 404 and list(answer) == ["error"]


def test_not_ready(tmp_path):
    save(tmp_path / "half" / "1", half())
    rest = Rest(Models(tmp_path), Options(token="secret"))
    assert Client(rest).json("GET", "/v2/health/live") == (200, {"live": True})
    assert Client(rest).json("GET", "/v2/health/ready")[0] == 503
    assert Client(rest).json("GET", "/v2")[0] == 401


def test_infer(client):
    """The specification's example: an identifier, two inputs, one output of two."""
    request = {"id": "42", "outputs": [{"name": "sum"}],
               "inputs": [x([1, 2, 3, 4], [2, 2], name="a"), x([10, 20], [2], "INT32", "b")]}
    path = "/v2/models/two/infer"
    assert client.json("POST", path, request) == (200, {
        "model_name": "two", "model_version": "1", "id": "42",
        "outputs": [y([11.0, 12.0, 23.0, 24.0], [2, 2], name="sum")]})
    request["inputs"][0]["data"] = [[1, 2], [3, 4]]  # nested, row by row
    del request["outputs"], request["id"]
    status, answer = client.json("POST", "/v2/models/two/versions/1/infer", request)
    assert status == 200 and "id" not in answer
    assert [output["name"] for output in answer["outputs"]] == ["difference", "sum"]


@pytest.mark.parametrize("signature, datatype, data", [
    ("float32", "FP32", [0.5, 1e30]), ("float64", "FP64", [0.1, 1e300]),
    ("float16", "FP16", [0.5, 2.0]), ("bool", "BOOL", [True, False]),
    ("int8", "INT8", [-128, 127]), ("int64", "INT64", [-2**63, 2**63 - 1]),
    ("uint8", "UINT8", [0, 255]), ("uint64", "UINT64", [0, 2**64 - 1]),
    ("string", "BYTES", ["a", "é"]),
])
def test_types(client, signature, datatype, data):
    request = {"parameters": {"signature_name": signature}, "inputs": [x(data, [2, 1], datatype)]}
    status, answer = client.json("POST", "/v2/models/types/infer", request)
    if signature == "float16":  # which JSON's types are not converted to, as at /v1
        assert status == 501
    else:
        assert (status, answer["outputs"]) == (200, [y(data, [2, 1], datatype)])


def test_bytes_that_are_no_text(client):
    encoded = base64.b64encode(png(4, 4)).decode()
    request = {"inputs": [x([encoded], [1], "BYTES", "image_bytes",
                            parameters={"content_type": "base64"})]}
    status, answer = client.json("POST", "/v2/models/pictures/infer", request)
    plain = client.json("POST", "/v1/models/pictures:predict", {"instances": [{"b64": encoded}]})
    assert status == 200
    np.testing.assert_allclose(answer["outputs"][0]["data"], plain[1]["predictions"])


@pytest.mark.parametrize("data, shape, more, message", [
    ([1.0], [1] * 100, {}, "'x' cannot have its 'shape'"),
    ([], [0, 2**63], {}, "'x' cannot have its 'shape'"),
    ([{"b64": "/w=="}], [1], {"parameters": {"content_type": "base64"}}, "base64"),
])
def test_inputs_of_any_shape(client, data, shape, more, message):
    signature, datatype = ("string", "BYTES") if more else ("float32", "FP32")
    status, answer = client.json("POST", "/v2/models/types/infer", {
        "parameters": {"signature_name": signature}, "inputs": [x(data, shape, datatype, **more)]})
    assert status == 400 and message in answer["error"]


@pytest.mark.parametrize("request_, message", [
    ({}, "'inputs' must be a list of objects"),
    ({"inputs": []}, "'inputs' must be a list of objects"),
    ({"inputs": [{"shape": [1]}]}, "each with a 'name'"),
    ({"inputs": [x([1.0], [1]), x([1.0], [1])]}, "different names. Received: x, x"),
    ({"inputs": [x([1.0], [1], name="z")]}, "must be named: x. Received: z"),
    ({"inputs": [x([1.0], [1], "FP64")]}, "'x' is of datatype FP32. Received: FP64"),
    ({"inputs": [x([1.0], None)]}, "'x' needs a 'shape'"),
    ({"inputs": [x([1.0], [True])]}, "'x' needs a 'shape'"),
    ({"inputs": [x([1.0], [-1])]}, "'x' needs a 'shape'"),
    ({"inputs": [x(1.0, [1])]}, "'x' needs 'data'"),
    ({"inputs": [x([1.0, 2.0], [3])]}, "'x' of shape [3] needs 3 values. Received: 2"),
    ({"inputs": [x([1.0, 2.0], [2, 1])]}, "Expecting shape [-1] but got: [2, 1]"),
    ({"inputs": [x(["a"], [1])]}, "is not of expected type: float32"),
    ({"inputs": [x([[1.0], [2.0, 3.0]], [3])]}, "Encountered list at unexpected size"),
    ({"inputs": [x([1.0], [1])], "outputs": [{"name": "q"}]}, "must be among: y. Received: q"),
    ({"inputs": [x([1.0], [1])], "parameters": {"signature_name": "s"}}, "must be among"),
    ({"inputs": [x([1.0], [1])], "parameters": {"signature_name": 3}}, "must be among"),
])
def test_what_is_wrong_is_said(client, request_, message):
    status, answer = client.json("POST", "/v2/models/half/infer", request_)
    assert status == 400 and list(answer) == ["error"] and message in answer["error"]


def test_models_that_are_not_there(client):
    request = {"inputs": [x([1.0], [1])]}
    for path in ("/v2/models/none/infer", "/v2/models/half/versions/9/infer"):
        assert client.json("POST", path, request)[0] == 404
    assert client.json("POST", "/v2/models/half/infer", b"{")[0] == 400
    for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer")):
        path = f"/v2/models/half/versions/{'9' * 5000}{path}"
        status, answer = client.json(method, path, request if method == "POST" else b"")
        assert status == 400 and "Failed to convert version" in answer["error"]
