"""The REST interface, case by case, as TensorFlow Serving documents it and tests its own."""

import asyncio
import json
import math

import numpy as np
import pytest
from served_models import Client, half, judges, pictures, save, two, types

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from app.server import json_tensors  # noqa: E402
from app.server.models import Models  # noqa: E402
from app.server.rest import Options, Rest  # noqa: E402

NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save(folder / "half" / "123", half())
    save(folder / "half" / "124", half(3.0))
    (folder / "half" / "labels.json").write_text('{"stable": 123, "gone": 7}')
    save(folder / "two" / "1", two)
    save(folder / "types" / "1", types)
    save(folder / "pictures" / "1", pictures, {"judged": "classify"})
    save(folder / "judges" / "5", judges, {"judge": "classify", "measure": "regress"})
    (folder / "broken" / "3").mkdir(parents=True)
    (folder / "broken" / "3" / "saved_model.pb").write_bytes(b"no model")
    return folder


def looked(folder):
    models = Models(folder)
    models.look()
    models.look()
    return models


@pytest.fixture(scope="module")
def client(folder):
    return Client(Rest(looked(folder), Options(body=10**6)))


# URLs and methods

MALFORMED = "Malformed request: "


@pytest.mark.parametrize("method, path, status, message", [
    ("GET", "/v1/models/half:predict", 400, MALFORMED + "GET /v1/models/half:predict"),
    ("POST", "/v1/models/half", 400, MALFORMED),
    ("POST", "/v1/models/half/metadata", 400, MALFORMED),
    ("POST", "/v1/models/half:guess", 400, MALFORMED),
    ("POST", "/v1/models/half/version/123:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/label/stable:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/versions/x:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/versions/-1:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/versions/1.0:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/versions/:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/labels/:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/versions/123/labels/stable:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/labels/stable/versions/123:predict", 400, MALFORMED),
    ("POST", "/v1/models/:predict", 400, MALFORMED),
    ("POST", "/v1/models:predict", 400, MALFORMED),
    ("POST", "/v1/models/half/123:predict", 400, MALFORMED),
    ("POST", "/v1/models/half:predict/", 400, MALFORMED),
    ("GET", "/v1/models/half/versions/x", 400, MALFORMED),
    ("GET", "/v1/models/half/metadata/more", 400, MALFORMED),
    ("GET", "/v1/models/half/versions/123/more", 400, MALFORMED),
    ("PUT", "/v1/models/half:predict", 400, MALFORMED + "PUT"),
    ("DELETE", "/v1/models/half", 400, MALFORMED + "DELETE"),
    ("PATCH", "/v1/models/half", 400, MALFORMED),
    ("GET", "/v1/", 400, MALFORMED),
    ("GET", "/v1/model/half", 400, MALFORMED),
    ("GET", "/v1/models", 400, "Missing model name in request."),
    ("GET", "/v1/models/", 400, "Missing model name in request."),
    ("GET", "/", 404, "Not found: /"),
    ("POST", "/v2/models/half:predict", 404, "Not found"),
    ("GET", "/v1", 404, "Not found"),
    ("GET", "/favicon.ico", 404, "Not found"),
    ("OPTIONS", "/v1/models/half:predict", 400, "Origin"),
    ("POST", "/v1/models/half/versions/99999999999999999999:predict", 400,
     "Failed to convert version: 99999999999999999999 to numeric."),
    ("GET", "/v1/models/half/versions/9223372036854775808", 400,
     "Failed to convert version: 9223372036854775808 to numeric."),
    ("POST", f"/v1/models/half/versions/{'9' * 5000}:predict", 400, "Failed to convert version"),
    ("POST", f"/v1/models/half/versions/{'0' * 5000}7:predict", 404, "Specific(half, 7)"),
    ("POST", "/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
    ("POST", "/v1/models/none/versions/1:predict", 404,
     "Servable not found for request: Specific(none, 1)"),
    ("POST", "/v1/models/half/versions/1:predict", 404,
     "Servable not found for request: Specific(half, 1)"),
    ("POST", "/v1/models/half/labels/x:predict", 400, "Unrecognized servable version label: x"),
    ("POST", "/v1/models/half/labels/gone:predict", 400,
     "Unrecognized servable version label: gone"),
    ("POST", "/v1/models/broken:predict", 404, "Servable not found for request: Latest(broken)"),
    ("GET", "/v1/models/none", 404, "Could not find any versions of model none"),
    ("GET", "/v1/models/half/versions/7", 404, "Could not find version 7 of model half"),
    ("GET", "/v1/models/half/labels/x", 400, "Unrecognized servable version label: x"),
    ("GET", "/v1/models/none/metadata", 404, "Servable not found"),
    ("GET", "/v1/models/half/labels/x/metadata", 400, "Unrecognized servable version label: x"),
    ("GET", "/v1/models/half/versions/7/metadata", 404, "Servable not found"),
    ("GET", "/v1/models/broken/metadata", 404, "Servable not found"),
])
def test_urls_that_are_refused(client, method, path, status, message):
    body = {"instances": [1.0]} if method == "POST" else b""
    found, answer = client.json(method, path, body)
    assert (found, list(answer)) == (status, ["error"]) and message in answer["error"]


@pytest.mark.parametrize("path, expected", [
    ("/v1/models/half:predict", 3.5), ("/v1/models/half/versions/124:predict", 3.5),
    ("/v1/models/half/versions/123:predict", 2.5), ("/v1/models/half/labels/stable:predict", 2.5),
    ("/V1/MODELS/half:PREDICT", 3.5), ("/v1/models/h%61lf:predict", 3.5),
    ("/v1/models/half/versions/0123:predict", 2.5), ("/v1/models/half:predict?x=1", 3.5),
    ("/v1/models/half/labels/st%61ble:predict", 2.5),
])
def test_urls_that_are_answered(client, path, expected):
    status, headers, body = client.ask("POST", path, {"instances": [1.0]})
    assert status == 200 and json.loads(body) == {"predictions": [expected]}
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(body)


# Bodies of predict

@pytest.mark.parametrize("body, message", [
    (b"", "JSON Parse error: The document is empty"),
    (b"  \n", "JSON Parse error: The document is empty"),
    (b"{", "at offset: 1"),
    (b'{"instances": [1.0}', "at offset: 18"),
    (b"nonsense", "at offset: 0"),
    (b'{"instances": [1.0]} x', "at offset: 21"),
    (b"[1.0]", "Is not object"), (b'"x"', "Is not object"), (b"1", "Is not object"),
    (b"null", "Is not object"), (b"true", "Is not object"), (b"NaN", "Is not object"),
    (b'{"instances": ' + b"[" * 500_000, "JSON Parse error"),
    (b'{"instances": ' + b"[" * 500_000 + b"]" * 500_000 + b"}", "request has 1000015 bytes"),
    (b'{"a":' * 100_000, "JSON Parse error"),
    (b'{"instances": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}", "unexpected level"),
    (b'{"instances": ["\xff\xfe"]}', "JSON Parse error"),
    (b"\x00\x01\x02", "JSON Parse error"),
    (b'{"instances": [' + b"9" * 5000 + b"]}", "JSON Parse error"),
    ({}, "Missing 'inputs' or 'instances' key"),
    ({"instance": [1.0]}, "Missing 'inputs' or 'instances' key"),
    ({"instances": [1.0], "inputs": [1.0]}, "expecting only one of"),
    ({"instances": 1.0}, "Expecting 'instances' to be an list/array"),
    ({"instances": {"x": [1.0]}}, "Expecting 'instances' to be an list/array"),
    ({"instances": "text"}, "Expecting 'instances' to be an list/array"),
    ({"instances": None}, "Expecting 'instances' to be an list/array"),
    ({"instances": []}, "No values in 'instances' array"),
    ({"instances": [1.0], "signature_name": 1}, "'signature_name' key must be a string value."),
    ({"instances": [1.0], "signature_name": None}, "'signature_name' key must be a string value."),
    ({"instances": [1.0], "signature_name": ["a"]}, "'signature_name' key must be a string"),
    ({"instances": [1.0], "signature_name": "s"},
     'Serving signature name: "s" not found in signature def'),
    ({"instances": [1.0], "signature_name": "__saved_model_init_op"}, "not found in signature"),
    ({"instances": ["x"]}, 'JSON Value: "x" Type: String is not of expected type: float32'),
    ({"instances": [1.0, "x"]}, "Failed to process element: 1 of 'instances' list. Error: "),
    ({"instances": [True]}, "Type: Bool is not of expected type: float32"),
    ({"instances": [None]}, "Type: Null is not of expected type: float32"),
    ({"instances": [{"x": 1.0}, 1.0]}, "Expecting object but got list at item 1"),
    ({"instances": [1.0, {"x": 1.0}]}, "Expecting value/list but got object at item 1"),
    ({"instances": [{"y": 1.0}]}, "keys must be equal to: x. Received: y"),
    ({"instances": [{}]}, "keys must be equal to: x"),
    ({"instances": [{"x": 1.0}, {"x": 1.0, "z": 2}]}, "element: 1 of 'instances' list"),
    ({"instances": [{"b64": "AAAA"}]}, "Type: Object is not of expected type: float32"),
    ({"instances": [{"x": {"a": 1}}]}, "Type: Object is not of expected type"),
    ({"instances": [1.0, [2.0]]}, "Failed to process element: 1 of 'instances' list"),
    ({"instances": [[1.0], [2.0]]}, "Expecting shape [-1] but got: [2, 1]"),
    ({"instances": [[1.0], [2.0, 3.0]]}, "Expecting tensor size: 1 but got: 2"),
    ({"instances": [[1.0, 2.0], [[1.0, 2.0]]]}, "Expecting shape [2] but got: [1, 2]"),
    ({"instances": [[[1.0], [2.0, 3.0]]]}, "unexpected size: 2 at level: 1"),
    ({"instances": [[1.0, [2.0]]]}, "unexpected level"),
    ({"instances": [[[1.0], 2.0]]}, "unexpected level: 1, beside 2.0"),
    ({"instances": [10**400]}, "too large for float32"),
    ({"inputs": {}}, "Missing named input: x in 'inputs' object."),
    ({"inputs": {"y": [1.0]}}, "Missing named input: x in 'inputs' object."),
    ({"inputs": 1.0}, "Expecting shape [-1] but got: []"),
    ({"inputs": [[1.0]]}, "Expecting shape [-1] but got: [1, 1]"),
    ({"inputs": ["x"]}, "is not of expected type: float32"),
    ({"inputs": None}, "Type: Null is not of expected type"),
    ({"inputs": {"x": [1.0, [2.0]]}}, "unexpected level"),
    ({"inputs": {"b64": 1}}, "Missing named input: x"),
])
def test_bodies_that_are_refused(client, body, message):
    status, answer = client.json("POST", "/v1/models/half:predict", body)
    assert list(answer) == ["error"] and message in answer["error"]
    assert status == (413 if "bytes" in message else 400)


@pytest.mark.parametrize("body, expected", [
    ({"instances": [1.0, 2.0, 5.0]}, {"predictions": [3.5, 4.0, 5.5]}),
    ({"instances": [1, 2]}, {"predictions": [3.5, 4.0]}),
    ({"instances": [{"x": 1.0}, {"x": 2}]}, {"predictions": [3.5, 4.0]}),
    ({"instances": [1e39, -1e39]}, {"predictions": [INF, -INF]}),
    ({"instances": [NAN, INF, -INF]}, {"predictions": [NAN, INF, -INF]}),
    ({"instances": [1435774380]}, {"predictions": [717887168.0 + 3]}),
    ({"inputs": [1.0, 2.0]}, {"outputs": [3.5, 4.0]}),
    ({"inputs": {"x": [1.0]}}, {"outputs": [3.5]}),
    ({"inputs": {"x": [1.0], "more": "is ignored"}}, {"outputs": [3.5]}),
    ({"inputs": []}, {"outputs": []}),
    ({"instances": [1.0], "signature_name": "serving_default"}, {"predictions": [3.5]}),
    ({"instances": [1.0], "unknown": {"a": 1}}, {"predictions": [3.5]}),
    (b'\xef\xbb\xbf{"instances": [1.0]}', None),
    (b' {"instances" : [ 1.0 ] } \n', {"predictions": [3.5]}),
    (b'{"instances": [1e0, -0.0]}', {"predictions": [3.5, 3.0]}),
])
def test_bodies_that_are_answered(client, body, expected):
    status, answer = client.json("POST", "/v1/models/half:predict", body)
    if expected is None:  # a byte order mark: RFC 8259 leaves it open
        assert status in (200, 400)
        return
    assert status == 200 and list(answer) == list(expected)
    ((_, given),), ((_, wanted),) = answer.items(), expected.items()
    np.testing.assert_array_equal(np.array(given, np.float32), np.array(wanted, np.float32))


def test_numbers_are_written_as_floats_of_their_precision(client):
    body = {"instances": [0.2, 1 / 3 * 2, 1e-30, 3e38]}
    _, _, text = client.ask("POST", "/v1/models/types:predict",
                            {**body, "signature_name": "float32"})
    assert json.loads(text)["predictions"][0] == 0.2 and b"0.20000000" not in text
    np.testing.assert_array_equal(np.float32(json.loads(text)["predictions"]),
                                  np.float32(body["instances"]))
    _, _, text = client.ask("POST", "/v1/models/half:predict", {"instances": [2.0]})
    assert text == b'{"predictions":[4.0]}'
    _, _, text = client.ask("POST", "/v1/models/half:predict", {"instances": [NAN, 0.1, -INF]})
    assert b"NaN" in text and b"-Infinity" in text and b"3.05" in text


@pytest.mark.parametrize("signature, given, expected", [
    ("float32", [1, 2.5], [1.0, 2.5]), ("float64", [0.1, 1e300], [0.1, 1e300]),
    ("int8", [-128, 127], [-128, 127]), ("int16", [3], [3]), ("int32", [-2**31], [-2**31]),
    ("int64", [2**63 - 1, -2**63], [2**63 - 1, -2**63]), ("uint8", [255], [255]),
    ("uint32", [2**32 - 1], [2**32 - 1]), ("uint64", [2**64 - 1], [2**64 - 1]),
    ("bool", [True, False], [True, False]), ("string", ["ä", ""], ["ä", ""]),
    ("string", [{"b64": "AAEC"}, "x"], ["\x00\x01\x02", "x"]),
    ("string", [[{"b64": "aGk"}]], [["hi"]]), ("string", [{"b64": " aG\nk= "}], ["hi"]),
    ("encoded", ["hi"], [{"b64": "aGk="}]), ("encoded", [{"b64": "/w=="}], [{"b64": "/w=="}]),
    ("int8", 1.0, "is not of expected type: int8"), ("int32", [1.5], "expected type: int32"),
    ("int32", [True], "Type: Bool is not of expected type: int32"),
    ("int8", [128], "128 is out of range of type: int8"), ("uint8", [-1], "out of range"),
    ("uint8", [256], "out of range"), ("int16", [40000], "out of range"),
    ("int32", [2**31], "out of range"), ("int64", [2**63], "out of range"),
    ("uint64", [-1], "out of range"), ("bool", [1], "Type: Number is not of expected type: bool"),
    ("bool", ["true"], "expected type: bool"), ("string", [1], "expected type: string"),
    ("string", [{"b64": "%%%"}], "Unable to base64 decode"),
    ("string", [{"b64": "A"}], "Unable to base64 decode"),
    ("string", [{"b64": 1}], "expected type: string"),
    ("string", ["\ud800"], "is no text"), ("string", [None], "Type: Null"),
    ("float16", [1.0], "Conversion of JSON Value to type: float16"),
    ("divided", [0.0, 4.0], [INF, 0.25]),
])
def test_types(client, signature, given, expected):
    status, answer = client.json("POST", "/v1/models/types:predict",
                                 {"inputs": {"x": given}, "signature_name": signature})
    if isinstance(expected, str):
        assert status == (501 if signature == "float16" else 400)
        assert expected in answer["error"]
    else:
        assert (status, answer) == (200, {"outputs": expected})


@pytest.mark.parametrize("body, message", [
    ({"instances": [1.0], "signature_name": "scalar"}, "y has no shape information"),
    ({"instances": [1.0], "signature_name": "uneven"}, "z has inconsistent batch size: 2"),
    ({"inputs": [NAN], "signature_name": "refuses"}, "no : Tensor had NaN"),
])
def test_what_the_model_refuses_is_the_clients_error(client, body, message):
    status, answer = client.json("POST", "/v1/models/types:predict", body)
    assert status == 400 and message in answer["error"]


def test_a_scalar_comes_in_columns(client):
    assert client.json("POST", "/v1/models/types:predict", {
        "inputs": [1.0, 2.5], "signature_name": "scalar"}) == (200, {"outputs": 3.5})


@pytest.mark.parametrize("body, expected", [
    ({"instances": [{"a": [1.0, 2.0], "b": 1}, {"a": [3.0, 4.0], "b": 2}]},
     {"predictions": [{"difference": [0.0, 1.0], "sum": [2.0, 3.0]},
                      {"difference": [1.0, 2.0], "sum": [5.0, 6.0]}]}),
    ({"inputs": {"a": [[1.0, 2.0]], "b": [1], "c": None}},
     {"outputs": {"difference": [[0.0, 1.0]], "sum": [[2.0, 3.0]]}}),
    ({"instances": [[1.0, 2.0]]}, "multiple input tensors required as per tensorinfo_map: a,b"),
    ({"inputs": [[1.0, 2.0]]}, "multiple input tensors required as per tensorinfo_map: a,b"),
    ({"instances": [{"a": [1.0, 2.0]}]}, "keys must be equal to: a,b"),
    ({"instances": [{"a": [1.0, 2.0], "b": 1, "c": 1}]}, "keys must be equal to: a,b"),
    ({"instances": [{"a": [1.0], "b": 1}]}, "Expecting shape [-1, 2] but got: [1, 1]"),
    ({"instances": [{"a": [1.0, 2.0], "b": 1.5}]}, "expected type: int32"),
    ({"inputs": {"a": [[1.0, 2.0]]}}, "Missing named input: b in 'inputs' object."),
    ({"inputs": {"a": [[1.0, 2.0]] * 3, "b": [1, 2]}},
     "Expecting as many rows of each input. Received: a 3, b 2"),
])
def test_several_inputs(client, body, expected):
    status, answer = client.json("POST", "/v1/models/two:predict", body)
    if isinstance(expected, str):
        assert status == 400 and expected in answer["error"]
    else:
        assert (status, answer) == (200, expected)


def test_inputs_of_unequal_rows_fail_no_other_request(client):
    """Though together they have as many rows of one input as of the other."""
    async def ask_all():
        return await asyncio.gather(*(client.asked("POST", "/v1/models/two:predict", {
            "inputs": {"a": [[1.0, 2.0]] * a, "b": [1] * b}})
            for a, b in ((2, 2), (1, 2), (2, 1))))

    assert [status for status, _, _ in asyncio.run(ask_all())] == [200, 400, 400]


def test_a_model_that_returns_other_rows_answers_each_request(client):
    async def ask_all():
        return await asyncio.gather(*(client.asked("POST", "/v1/models/types:predict", {
            "inputs": [float(i)], "signature_name": "twice"}) for i in range(5)))

    for _ in range(2):  # the second time nothing is shared
        answers = asyncio.run(ask_all())
        assert [json.loads(body) for _, _, body in answers] == [
            {"outputs": [i, i]} for i in range(5)]


def test_the_wrong_row_is_found_without_reading_each_row_alone(client, monkeypatch):
    read, values = [], json_tensors._values
    monkeypatch.setattr(json_tensors, "_values",
                        lambda flat, dtype: read.append(len(flat)) or values(flat, dtype))
    for wrong in (0, 1, 7_777, 19_999):
        rows = [1.5] * 20_000
        rows[wrong] = "x"
        read.clear()
        status, answer = client.json("POST", "/v1/models/half:predict", {"instances": rows})
        assert status == 400 and answer["error"].startswith(
            f"Failed to process element: {wrong} of 'instances' list. Error: JSON Value: \"x\"")
        assert len(read) < 40 and sum(read) < 60_000


def test_numbers_that_are_not_finite_are_looked_for_column_by_column(client, monkeypatch):
    looked, isfinite = [], np.isfinite
    monkeypatch.setattr(json_tensors.np, "isfinite",
                        lambda value: looked.append(len(value)) or isfinite(value))
    rows = [{"a": [1.0, NAN], "b": i} for i in range(50)]
    _, answer = client.json("POST", "/v1/models/two:predict", {"instances": rows})
    np.testing.assert_array_equal(answer["predictions"][49]["sum"], [50.0, NAN])
    assert looked == [50]
    looked.clear()
    rows = [{"a": [1.0, 2.0], "b": i} for i in range(50)]
    assert client.json("POST", "/v1/models/two:predict", {"instances": rows})[0] == 200
    assert looked == [50, 50]


# classify and regress

@pytest.mark.parametrize("method, body, expected", [
    ("classify", {"examples": [{"x": 0.75}]}, [[["yes", 0.75], ["no", 0.25]]]),
    ("classify", {"examples": [{"x": [0.5]}, {"x": 1.0}], "signature_name": "judge"}, None),
    ("classify", {"context": {"x": 0.25}, "examples": [{}, {"x": 0.75}]},
     [[["yes", 0.25], ["no", 0.75]], [["yes", 0.75], ["no", 0.25]]]),
    ("regress", {"examples": [{"x": 0.75}, {"x": 2.0}]}, [1.5, 4.0]),
    ("regress", {"examples": [{}]}, [-2.0]),
    ("regress", {"examples": [{"x": 0.75, "more": ["a", {"b64": "AAAA"}], "n": 3}]}, [1.5]),
    ("classify", {"examples": [{"x": "text"}]}, "x"),
    ("classify", {"examples": [{"x": [0.5, "a"]}]}, "Example feature: x must be values of one"),
    ("classify", {"examples": [{"x": {"a": 1}}]}, "expected type: string"),
    ("classify", {"examples": [{"x": None}]}, "Example feature: x must be"),
    ("classify", {"examples": [{"x": 2**63}]}, "Example feature: x has a number out of range"),
    ("classify", {"examples": []}, "'examples' must not be empty"),
    ("classify", {"examples": {}}, "Expecting 'examples' value to be a list"),
    ("classify", {"examples": [1]}, "Example must be JSON object"),
    ("classify", {"examples": [{"x": 0.5}], "context": 1}, "Expecting 'context' value"),
    ("classify", {"instances": [1]}, "the key 'examples' is expected"),
    ("classify", {"examples": [{}], "signature_name": "measure"},
     "Expected classification signature method_name to be tensorflow/serving/classify. Was: "
     "tensorflow/serving/regress"),
    ("regress", {"examples": [{}], "signature_name": "judge"}, "Expected regression signature"),
    ("regress", {"examples": [{}], "signature_name": "x"}, 'name: "x" not found'),
    ("classify", b"{", "JSON Parse error"),
])
def test_classify_and_regress(client, method, body, expected):
    status, answer = client.json("POST", f"/v1/models/judges:{method}", body)
    if isinstance(expected, str):
        assert status == 400 and expected in answer["error"]
    else:
        assert status == 200 and list(answer) == ["results"]
        assert expected in (None, answer["results"])


def test_classify_of_a_model_that_predicts(client):
    status, answer = client.json("POST", "/v1/models/half:classify", {"examples": [{"x": 1.0}]})
    assert status == 400 and "Was: tensorflow/serving/predict" in answer["error"]


# Status and metadata

def test_status(client):
    fine = {"error_code": "OK", "error_message": ""}
    both = [{"version": v, "state": "AVAILABLE", "status": fine} for v in ("124", "123")]
    assert client.json("GET", "/v1/models/half") == (200, {"model_version_status": both})
    for path in ("/v1/models/half/versions/123", "/v1/models/half/labels/stable"):
        assert client.json("GET", path) == (200, {"model_version_status": both[1:]})
    status, answer = client.json("GET", "/v1/models/broken")
    (only,) = answer["model_version_status"]
    assert (status, only["version"], only["state"]) == (200, "3", "END")
    assert "cannot be loaded" in only["status"]["error_message"]


def test_metadata(client):
    status, answer = client.json("GET", "/v1/models/half/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "half", "signature_name": "", "version": "124"}
    default = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict" and default["defaults"] == {}
    assert default["inputs"]["x"] == {
        "dtype": "DT_FLOAT", "name": "serving_default_x:0",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}}
    assert client.json("GET", "/v1/models/half/labels/stable/metadata")[1][
        "model_spec"]["version"] == "123"
