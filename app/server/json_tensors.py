"""Tensors out of JSON and back, as TensorFlow Serving's REST interface writes them.

Source: tensorflow/serving, g3doc/api_rest.md and util/json_tensor.cc. Beyond it, numbers that an
integer type cannot hold are refused and not wrapped around.
"""

import base64
import binascii
import json
from itertools import chain

import numpy as np
import orjson
import tensorflow as tf

from app.server.errors import RestError

_INTEGERS = {"int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"}
_FLOATS = {"float32", "float64"}
_DEEPEST = 32  # dimensions of a tensor
_LONGEST = 64  # characters of a value that a message repeats
_JSON_TYPES = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number",
               bool: "Bool", type(None): "Null"}


def decode(body):
    """The JSON object of a request.

    Raises:
        RestError: where `body` is none.
    """
    if not body.strip():
        raise RestError("JSON Parse error: The document is empty")
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = _decode_all(body)
    if type(request) is not dict:
        raise RestError(f"JSON Parse error: {_told(request)} Is not object")
    return request


def _decode_all(body):
    """With NaN and Infinity, which orjson refuses, and errors that say where."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise RestError(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except RecursionError as error:
        raise RestError("JSON Parse error: nested too deeply") from error
    except UnicodeDecodeError as error:
        raise RestError(f"JSON Parse error: Invalid encoding at offset: {error.start}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise RestError(f"JSON Parse error: {error}") from error


def signature_name(request):
    """The signature that a request names, or None."""
    name = request.get("signature_name")
    if "signature_name" in request and type(name) is not str:
        raise RestError("'signature_name' key must be a string value.")
    return name


def tensors(request, inputs):
    """({name: array}, whether the request is in row form) of a predict request.

    Args:
        inputs: {name: `signatures.Tensor`} of the signature.
    """
    if "instances" in request and "inputs" in request:
        raise RestError("Not formatted correctly expecting only one of 'inputs' or 'instances' "
                        "keys to exist")
    if "instances" in request:
        return _of_rows(request["instances"], inputs), True
    if "inputs" in request:
        return _of_columns(request["inputs"], inputs), False
    raise RestError("Missing 'inputs' or 'instances' key")


def _of_rows(instances, inputs):
    if type(instances) is not list:
        raise RestError("Expecting 'instances' to be an list/array")
    if not instances:
        raise RestError("No values in 'instances' array")
    named = _is_named(instances[0])
    for i, item in enumerate(instances):
        if _is_named(item) != named:
            raise RestError(f"Expecting object but got list at item {i} of input list" if named
                            else f"Expecting value/list but got object at item {i} of input list")
    if not named:
        if len(inputs) != 1:
            raise RestError("instances is a plain list, but expecting list of objects as multiple "
                            f"input tensors required as per tensorinfo_map: {_names(inputs)}")
        ((name, tensor),) = inputs.items()
        return {name: _rows(instances, tensor)}
    for i, item in enumerate(instances):
        if item.keys() != inputs.keys():
            raise RestError(f"Failed to process element: {i} of 'instances' list. Error: JSON "
                            f"object: keys must be equal to: {_names(inputs)}. "
                            f"Received: {_names(item)}")
    return {name: _rows([item[name] for item in instances], tensor)
            for name, tensor in inputs.items()}


def _rows(values, tensor):
    """An array with a row for each value."""
    try:
        rows = _unchecked(values, tensor.dtype)
    except RestError as error:
        raise _of_item(values, tensor.dtype, error) from error
    check_shape(rows.shape, tensor.shape)
    return rows


def _of_item(values, dtype, error):
    """The error of the first row that cannot be read, or is unlike the first one."""
    i, reason = _first_wrong(values, dtype), error
    try:
        expected, given = (_unchecked(value, dtype) for value in (values[0], values[i]))
        if given.size != expected.size:
            reason = f"Expecting tensor size: {expected.size} but got: {given.size}"
        elif given.shape != expected.shape:
            reason = f"Expecting shape {list(expected.shape)} but got: {list(given.shape)}"
    except RestError as of_row:
        reason = of_row
    return RestError(f"Failed to process element: {i} of 'instances' list. Error: {reason}")


def _first_wrong(values, dtype):
    """The number of the first row that the rows before it cannot make an array with.

    By halves: row by row, it would take many times as long as what a good request takes.
    """
    good, wrong = 0, len(values)  # so many rows make an array, and so many do not
    while wrong - good > 1:
        middle = (good + wrong) // 2
        try:
            _unchecked(values[:1] + values[good:middle], dtype)
            good = middle
        except RestError:
            wrong = middle
    return good


def _of_columns(values, inputs):
    if not _is_named(values) and len(inputs) == 1:
        ((name, tensor),) = inputs.items()
        return {name: array(values, tensor)}
    if type(values) is not dict:
        raise RestError("inputs is a plain value/list, but expecting an object as multiple input "
                        f"tensors required as per tensorinfo_map: {_names(inputs)}")
    missing = [name for name in inputs if name not in values]
    if missing:
        raise RestError(f"Missing named input: {missing[0]} in 'inputs' object.")
    return {name: array(values[name], tensor) for name, tensor in inputs.items()}


def array(value, tensor):
    """A NumPy array of nested lists, checked against what a signature takes."""
    values = _unchecked(value, tensor.dtype)
    check_shape(values.shape, tensor.shape)
    return values


def _unchecked(value, dtype):
    shape, flat = _flattened(value)
    return _values(flat, dtype).reshape(shape)


def check_shape(shape, expected):
    """Raises RestError where a shape is not what a signature takes."""
    if expected is not None and (len(expected) != len(shape) or any(
            size not in (None, given) for size, given in zip(expected, shape))):
        raise RestError(f"Expecting shape {_shown(expected)} but got: {list(shape)}")


def check_rows(inputs):
    """Raises RestError where the inputs of a call, {name: array}, have not as many rows each."""
    if len(set(map(len, inputs.values()))) > 1:
        received = ", ".join(f"{name} {len(value)}" for name, value in inputs.items())
        raise RestError(f"Expecting as many rows of each input. Received: {received}")


def _flattened(value):
    """(shape, the values one after the other) of nested lists of equal lengths."""
    level, shape = [value], []
    while list in (kinds := set(map(type, level))):
        if len(kinds) > 1:
            raise RestError(f"Encountered list at unexpected level: {len(shape)}, beside "
                            f"{_told(next(item for item in level if type(item) is not list))}")
        sizes = set(map(len, level))
        if len(sizes) > 1:
            size, other = len(level[0]), next(n for n in map(len, level) if n != len(level[0]))
            raise RestError(f"Encountered list at unexpected size: {other} at level: "
                            f"{len(shape)} expected size: {size}")
        shape += sizes
        if len(shape) > _DEEPEST:
            raise RestError(f"Encountered list at unexpected level: {len(shape)} expected < "
                            f"{_DEEPEST + 1}")
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def _values(flat, dtype):
    """A flat array of plain values of one JSON type."""
    kinds, name = set(map(type, flat)), dtype.name
    if name in _FLOATS:
        _check_kinds(flat, kinds, {int, float}, name)
        try:
            with np.errstate(over="ignore"):  # what is too large is infinite
                return np.array(flat, np.float64).astype(name)
        except OverflowError as error:
            raise RestError(f"A number is too large for {name}") from error
    if name in _INTEGERS:
        _check_kinds(flat, kinds, {int}, name)
        try:
            return np.array(flat, name)
        except OverflowError as error:
            limits = np.iinfo(name)
            wrong = next(v for v in flat if not limits.min <= v <= limits.max)
            raise RestError(f"JSON Value: {_told(wrong)} is out of range of type: {name}"
                            ) from error
    if dtype == tf.bool:
        _check_kinds(flat, kinds, {bool}, "bool")
        return np.array(flat, bool)
    if dtype == tf.string:
        _check_kinds(flat, kinds, {str, dict}, "string")
        values = np.empty(len(flat), object)
        values[:] = [bytes_of(value) for value in flat]
        return values
    raise RestError(f"Conversion of JSON Value to type: {name}", "UNIMPLEMENTED")


def _check_kinds(flat, kinds, allowed, expected):
    if not kinds <= allowed:
        wrong = next(value for value in flat if type(value) not in allowed)
        raise RestError(f"JSON Value: {_told(wrong)} Type: {_JSON_TYPES[type(wrong)]} is not of "
                        f"expected type: {expected}")


def bytes_of(value):
    """The bytes of a string, or of {"b64": ...}."""
    if type(value) is str:
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise RestError(f"JSON Value: {_told(value)} is no text") from error
    if not _is_base64(value):
        raise RestError(f"JSON Value: {_told(value)} Type: Object is not of expected type: string")
    text = "".join(value["b64"].split()).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RestError("Unable to base64 decode") from error


def _is_base64(value):
    return type(value) is dict and value.keys() == {"b64"} and type(value["b64"]) is str


def _is_named(item):
    return type(item) is dict and not _is_base64(item)


def _names(names):
    return ",".join(map(str, sorted(names)))


def _shown(shape):
    return str([-1 if size is None else size for size in shape])


def _told(value):
    text = json.dumps(value) if type(value) not in (dict, list) else _JSON_TYPES[type(value)]
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def encode(outputs, rows):
    """The JSON of a predict response: `outputs` is {name: array}, `rows` says in which form."""
    if not rows:
        values = {name: plain(name, value) for name, value in outputs.items()}
        return dump({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    sizes = {}
    for name, value in outputs.items():
        if value.ndim == 0:
            raise RestError(f"Tensor name: {name} has no shape information")
        sizes[name] = len(value)
        first = next(iter(sizes.values()))
        if len(value) != first:
            raise RestError(f"Tensor name: {name} has inconsistent batch size: {len(value)} "
                            f"expecting batch size: {first}")
    columns = {name: plain(name, value) for name, value in outputs.items()}
    if len(columns) == 1:
        return dump({"predictions": next(iter(columns.values()))})
    items = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return dump({"predictions": items}, has_tokens(columns))  # not row by row


def plain(name, value):
    """What `dump` writes: numbers as they are, strings as text or, by name, as base64."""
    if value.dtype != object:
        return np.require(value, requirements="C")
    as_bytes = name.endswith("_bytes")
    texts = np.empty(value.shape, object)
    for i, item in np.ndenumerate(value):
        texts[i] = ({"b64": base64.b64encode(item).decode()} if as_bytes
                    else item.decode(errors="replace"))
    return texts.tolist()


def dump(value, tokens=None):
    """JSON as bytes; NaN and Infinity as the tokens that TensorFlow Serving writes.

    Args:
        tokens: whether there are any, where that is known.
    """
    try:
        if not (has_tokens(value) if tokens is None else tokens):
            return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=_listed)
    except (orjson.JSONEncodeError, TypeError):
        pass  # a lone surrogate, or a type of array that orjson does not know
    return json.dumps(value, default=_listed).encode()


def _listed(value):
    """An array as lists; floats with the digits of their own precision."""
    if getattr(value, "ndim", 1) == 0 and value.dtype.kind != "f":
        return value.item()
    if value.dtype.kind not in "fV" or value.dtype == np.float64:
        return value.tolist()
    shortest = [float(str(item)) for item in np.asarray(value, np.float32).ravel()]
    return np.array(shortest, np.float64).reshape(value.shape).tolist()


def has_tokens(value):
    """Whether a number in `value`, arrays in dicts and lists, is not finite."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind == "f" and not np.isfinite(value).all()
    if isinstance(value, dict):
        return any(map(has_tokens, value.values()))
    if isinstance(value, list):
        return any(map(has_tokens, value))
    return False
