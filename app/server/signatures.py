"""What a SavedModel's signatures take and return, from its own description."""

from dataclasses import dataclass

import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

PREDICT, CLASSIFY, REGRESS = (
    f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))
_OF_LOADING = "__saved_model_init_op"


@dataclass(frozen=True)
class Tensor:
    """dtype, and shape with None for a size that is open; shape None: of any rank."""

    dtype: tf.DType
    shape: tuple | None

    @property
    def batched(self):
        """Whether it has any number of rows."""
        return bool(self.shape) and self.shape[0] is None


@dataclass(frozen=True)
class Signature:
    """The tensors of a function by their names, and the method of TensorFlow Serving it is for."""

    name: str
    method: str
    inputs: dict
    outputs: dict

    @property
    def batched(self):
        """Whether requests may share a call: row by row, what goes in comes out."""
        both = [*self.inputs.values(), *self.outputs.values()]
        return bool(self.inputs) and all(tensor.batched for tensor in both)

    @property
    def steady(self):
        """Whether a row is as much work as another: no texts or images, no size that is open."""
        return all(tensor.dtype != tf.string and tensor.shape is not None
                   and None not in tensor.shape[1:] for tensor in self.inputs.values())


def read(folder):
    """({name: Signature}, the signatures as TensorFlow Serving's metadata has them)."""
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    graph = next((g for g in saved.meta_graphs if "serve" in g.meta_info_def.tags), None)
    if graph is None:
        raise ValueError("it has no graph with the tag `serve`")
    signatures = {
        name: Signature(name, s.method_name, _tensors(s.inputs), _tensors(s.outputs))
        for name, s in graph.signature_def.items() if name != _OF_LOADING}
    metadata = {name: json_format.MessageToDict(
        s, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for name, s in graph.signature_def.items()}
    return signatures, metadata


def _tensors(described):
    return {name: Tensor(tf.as_dtype(tensor.dtype), _shape(tensor.tensor_shape))
            for name, tensor in sorted(described.items())}


def _shape(described):
    if described.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in described.dim)
