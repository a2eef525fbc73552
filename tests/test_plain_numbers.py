"""What is read fast is what is read with care, or nothing."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

pytest.importorskip("simdjson", reason="the extra `serve` is not installed")

from app.server import json_tensors, plain_numbers  # noqa: E402
from app.server.errors import RestError  # noqa: E402
from app.server.signatures import Tensor  # noqa: E402

SHAPES = (), (3,), (2, 2), (2, 1, 3)


def carefully(body, inputs):
    """As `json_tensors` reads it; None for what it refuses."""
    try:
        return json_tensors.tensors(json_tensors.decode(body), inputs)
    except RestError:
        return None


def check(body, inputs):
    """Whether it was read fast; then it must be right."""
    found, expected = plain_numbers.read(body, inputs), carefully(body, inputs)
    if found is not None:
        (values, rows), (right, by_row) = found, expected
        assert rows == by_row and values["x"].dtype == right["x"].dtype
        np.testing.assert_array_equal(values["x"], right["x"])
    return found is not None


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_plain_numbers_are_read(key, shape, dtype):
    scale = 10.0 ** np.arange(-3, 5, 2).reshape(4, *[1] * len(shape))
    values = scale * np.random.default_rng(0).normal(size=(4, *shape))
    for given_values in (values, values.round().astype(int)):
        for indent in (None, 1):
            body = json.dumps({key: given_values.tolist()}, indent=indent).encode()
            assert check(body, {"x": Tensor(dtype, (None, *shape))})


@pytest.mark.parametrize("text", [
    "", "{}", "[]", "1", '{"instances": []}', '{"instances": [[]]}', '{"instances": [[1, 2]]}',
    '{"instances": [[1, 2, 3], [1, 2]]}', '{"instances": [[1, 2], [1, 2, 3, 4]]}',
    '{"instances": [[1, 2, 3]], "signature_name": "a"}', '{"instances": [[1, 2, true]]}',
    '{"instances": [[1, 2, NaN]]}', '{"instances": [[1, 2, "3"]]}', '{"instances": [[1,, 3]]}',
    '{"instances": [[1, , 3]]}', '{"instances": [[1 2, 3, 4]]}', '{"instances": [[1, 2, 3]]} 4',
    '{"instances": [[01, 2, 3]]}', '{"instances": [[+1, 2, 3]]}', '{"instances": [[1., 2, 3]]}',
    '{"instances": [[1e400, 2, 3]]}', '{"instances": [[1e4.0, 2, 3]]}', '{"inputs": []}',
    '{"inst1ances": [[1, 2, 3]]}',
    '{"instances": {"x": [[1, 2, 3]]}}', '{"instances": [{"x": [1, 2, 3]}]}',
    '{"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}', '{"inputs": [[1, 2, 3]]', "5" * 40,
    '{"instances": [[123456789012345678901234567890, 2, 3]]}'])
def test_all_else_is_left_alone(text):
    assert not check(text.encode(), {"x": Tensor(tf.float32, (None, 3))})


@pytest.mark.parametrize("tensor", [
    Tensor(tf.int32, (None, 3)), Tensor(tf.float16, (None, 3)), Tensor(tf.float32, None),
    Tensor(tf.float32, (None, None)), Tensor(tf.float32, (1, 3)), Tensor(tf.float32, ())])
def test_other_tensors_are_left_alone(tensor):
    body = b'{"instances": [[1, 2, 3]]}'
    assert plain_numbers.read(body, {"x": tensor}) is None
    assert plain_numbers.read(body, {"x": Tensor(tf.float32, (None, 3))}) is not None
    assert plain_numbers.read(body, dict.fromkeys("xy", Tensor(tf.float32, (None, 3)))) is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SHAPES), st.data())
def test_what_is_read_is_right(shape, data):
    """Numbers of a shape, of which a character is another one or is not there."""
    numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2**63, 2**64 - 1)
    size = 2 * int(np.prod(shape))
    flat = np.array(data.draw(st.lists(numbers, min_size=size, max_size=size)), object)
    body = json.dumps({"instances": flat.reshape(2, *shape).tolist()})
    at = data.draw(st.integers(0, len(body) - 1))
    body = body[:at] + data.draw(st.sampled_from(["", *'0.e-,[]{} "'])) + body[at + 1:]
    check(body.encode(), {"x": Tensor(tf.float32, (None, *shape))})
