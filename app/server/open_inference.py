"""The Open Inference Protocol, version 2 of KServe's, over HTTP: the same models at /v2.

Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md. Optional parts
that are here: parameters (`signature_name` of a request; `content_type: base64` of an input of
BYTES, for what is no text) and the choice of outputs. Binary data beside the JSON is not.
"""

import re
from importlib.metadata import version as installed
from math import prod

import tensorflow as tf

from app.server import json_tensors
from app.server.errors import RestError
from app.server.names import named
from app.server.signatures import Tensor

_MODEL = r"/v2/models/([^/]+)(?:/versions/(\d+))?"
INFER = re.compile(_MODEL + "/infer")
_READY, _METADATA = re.compile(_MODEL + "/ready"), re.compile(_MODEL)
HEALTH = {"/v2/health/live": {"live": True}, "/v2/health/ready": {"ready": True}}
_DATATYPES = {"bool": "BOOL", "string": "BYTES", "bfloat16": "BF16", "float16": "FP16",
              "float32": "FP32", "float64": "FP64"}


def told(models, path):
    """What a GET says: of the server, of a model, or that a model is ready.

    Raises:
        RestError: where there is no such path or model.
    """
    if path == "/v2":
        return {"name": "handgrad", "version": installed("handgrad"), "extensions": []}
    if asked := _READY.fullmatch(path):
        loaded = models.get(*named(*asked.groups()))
        return {"name": loaded.name, "ready": True}
    if asked := _METADATA.fullmatch(path):
        loaded = models.get(*named(*asked.groups()))
        signature = _signature(loaded, {})
        versions = models.models[loaded.name].available()
        return {"name": loaded.name, "versions": [str(number) for number in versions],
                "platform": "tensorflow_savedmodel", "inputs": _described(signature.inputs),
                "outputs": _described(signature.outputs)}
    raise RestError(f"Not found: {path}", "NOT_FOUND")


def parsed(body, loaded_of):
    """(version, signature, inputs, what makes JSON of the outputs) of a request.

    Args:
        loaded_of: gives the version that is asked for, once the JSON is read.
    """
    request = json_tensors.decode(body)
    loaded = loaded_of()
    signature = _signature(loaded, request.get("parameters", {}))
    inputs = _by_name(request.get("inputs"), "inputs")
    if inputs.keys() != signature.inputs.keys():
        raise RestError(f"'inputs' must be named: {_list(signature.inputs)}. "
                        f"Received: {_list(inputs)}")
    arrays = {name: _array(given, signature.inputs[name]) for name, given in inputs.items()}
    chosen = _by_name(request.get("outputs", [{"name": name} for name in signature.outputs]),
                      "outputs")
    if unknown := chosen.keys() - signature.outputs.keys():
        raise RestError(f"'outputs' must be among: {_list(signature.outputs)}. "
                        f"Received: {_list(unknown)}")
    about = {"model_name": loaded.name, "model_version": str(loaded.version)}
    if "id" in request:
        about["id"] = request["id"]

    def encode(outputs):
        return json_tensors.dump(about | {"outputs": [
            {"name": name, "shape": list(outputs[name].shape),
             "datatype": _datatype(signature.outputs[name]),
             "data": json_tensors.plain(name, outputs[name].ravel())} for name in chosen]})

    return loaded, signature, arrays, encode


def _signature(loaded, parameters):
    name = parameters.get("signature_name") if type(parameters) is dict else None
    name = "serving_default" if name is None else name
    if type(name) is not str or name not in loaded.signatures:
        raise RestError(f"'signature_name' must be among: {_list(loaded.signatures)}. "
                        f"Received: {str(name)[:64]}")
    return loaded.signatures[name]


def _by_name(tensors, key):
    """{name: tensor} of a list of objects with names."""
    if type(tensors) is not list or not tensors or not all(
            type(t) is dict and type(t.get("name")) is str for t in tensors):
        raise RestError(f"'{key}' must be a list of objects, each with a 'name'")
    found = {tensor["name"]: tensor for tensor in tensors}
    if len(found) < len(tensors):
        raise RestError(f"'{key}' must have different names. Received: "
                        f"{', '.join(t['name'] for t in tensors)}")
    return found


def _array(given, tensor):
    name, shape, data = given["name"], given.get("shape"), given.get("data")
    datatype = _datatype(tensor)
    if given.get("datatype") != datatype:
        raise RestError(f"Input '{name}' is of datatype {datatype}. "
                        f"Received: {str(given.get('datatype'))[:64]}")
    if type(shape) is not list or not all(type(n) is int and n >= 0 for n in shape):
        raise RestError(f"Input '{name}' needs a 'shape': a list of whole numbers from 0")
    if type(data) is not list:
        raise RestError(f"Input '{name}' needs 'data': a list, flat or nested")
    # The data may be flat whatever the shape is.
    values = json_tensors.array(data, Tensor(tensor.dtype, None)).ravel()
    if prod(shape) != values.size:
        raise RestError(f"Input '{name}' of shape {shape} needs {prod(shape)} values. "
                        f"Received: {values.size}")
    json_tensors.check_shape(shape, tensor.shape)
    parameters = given.get("parameters", {})
    if tensor.dtype == tf.string and type(parameters) is dict \
            and parameters.get("content_type") == "base64":
        values[:] = [json_tensors.bytes_of({"b64": v.decode(errors="replace")}) for v in values]
    try:
        return values.reshape(shape)
    except (ValueError, OverflowError) as error:  # more dimensions than NumPy has, or empty ones
        raise RestError(f"Input '{name}' cannot have its 'shape': {error}") from error


def _datatype(tensor):
    return _DATATYPES.get(tensor.dtype.name, tensor.dtype.name.upper())  # int8 is INT8


def _described(tensors):
    return [{"name": name, "datatype": _datatype(tensor),
             "shape": [-1 if size is None else size for size in tensor.shape or [None]]}
            for name, tensor in tensors.items()]


def _list(names):
    return ", ".join(sorted(names))[:256]
