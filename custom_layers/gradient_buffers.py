"""The buffers behind the tensors of a graph: how large they are, and what is in them."""

import tensorflow as tf

# Ops whose result is their (first) input's own memory.
VIEWS = ("Bitcast", "CheckNumerics", "EnsureShape", "ExpandDims", "Identity", "PreventGradient",
         "Reshape", "Snapshot", "Squeeze", "StopGradient")
LOOPS = ("While", "StatelessWhile")
# What is in the result of an op, whatever its layer.
WORDS = {
    "AvgPool": "pooled means", "Conv2D": "convolution output", "Conv3D": "convolution output",
    "Conv2DBackpropInput": "transposed convolution output",
    "DepthwiseConv2dNative": "depthwise convolution output", "Elu": "ELU output",
    "LeakyRelu": "LeakyReLU output", "MaxPool": "pooled maxima", "Relu": "ReLU output",
    "Relu6": "ReLU6 output", "Selu": "SELU output", "Sigmoid": "sigmoid output",
    "Softmax": "softmax output", "Softplus": "softplus output", "Tanh": "tanh output",
    "TensorListStack": "states of all steps",
}
# What is in it where it is no more than a step of its layer.
STEPS = {
    "AddV2": "sum", "BatchMatMulV2": "matrix product", "BatchMatMulV3": "matrix product",
    "ConcatV2": "concatenation", "Einsum": "matrix product", "MatMul": "matrix product",
    "Mul": "product", "Pad": "padded input", "PadV2": "padded input", "RealDiv": "quotient",
    "SelectV2": "selection", "StatelessWhile": "state", "Sub": "difference",
    "Transpose": "transposed input", "While": "state",
}


def base(t):
    """The tensor that owns the memory which `t` is a view of."""
    while True:
        op = t.op
        if op.type in VIEWS or op.type == "Cast" and op.inputs[0].dtype == t.dtype:
            t = op.inputs[0]
        elif op.type == "IdentityN":  # around each tf.custom_gradient
            t = op.inputs[t.value_index]
        else:
            return t


def size(t):
    """Bytes of a tensor, or None where they show only as it runs. A handle has none."""
    if t.dtype == tf.resource:
        return 0
    if t.dtype in (tf.string, tf.variant):
        return None
    elements = t.shape.num_elements()
    return None if elements is None else elements * t.dtype.size


def unchanging(graph):
    """The ops whose result is of weights and constants alone."""
    found = set()
    for op in graph.get_operations():
        if op.type == "Placeholder":
            fixed = op.outputs[0].dtype == tf.resource
        else:
            fixed = "Random" not in op.type and all(t.op in found for t in op.inputs)
        if fixed:
            found.add(op)
    return found


class Buffers:
    """The memory that the tensors of a graph hold."""

    def __init__(self, graph):
        self.unchanging = unchanging(graph)
        self._graph, self._of, self._lengths = graph, {}, {}

    def of(self, t):
        """What is held with a tensor: pairs of a tensor and how many there are of it.

        One, but for the lists that a loop fills: there it is what each step appends. A weight
        that each step reads, or what no step changes, is no more for being in a list.
        """
        t = base(t)
        if t.ref() not in self._of:
            self._of[t.ref()] = self._listed(t) if t.dtype == tf.variant else [(t, 1)]
            if t.op.type == "FusedBatchNormV3" and t.value_index == 5:
                self._of[t.ref()] = []  # notes of cuDNN's, empty unless it fuses an activation
        return self._of[t.ref()]

    def _listed(self, t):
        loop = t.op
        origin = loop.inputs[t.value_index].op if loop.type in LOOPS else loop
        if origin.type == "TensorListFromTensor":
            return [(base(origin.inputs[0]), 1)]
        body = getattr(loop, "_body_graph", None)
        appended = body.outputs[t.value_index].op if body else loop
        if appended.type not in ("TensorListPushBack", "TensorListSetItem"):
            return [(t, 1)]
        item = base(appended.inputs[-1])
        if item.op in unchanging(body):
            return []
        for given, inside, after in zip(loop.inputs, body.inputs, body.outputs):
            if inside is item and base(after) is item:
                return [(base(given), 1)]
        return [(item, self._length(origin.inputs[1]))]

    def _length(self, length):
        """How many items a list will have; None where that shows only as it is filled."""
        if length.op not in self.unchanging:
            return None
        if length.ref() not in self._lengths:
            with tf.compat.v1.Session(graph=self._graph) as session:
                self._lengths[length.ref()] = int(session.run(length))
        return self._lengths[length.ref()] if self._lengths[length.ref()] >= 0 else None


def kind(t, layer, graph):
    """What is in a tensor that `layer`, or a loop in it, made in `graph`, a `Recorder`."""
    name = type(layer).__name__
    if t.graph is not graph:
        return "states of all steps"
    if t.dtype in (tf.bool, tf.uint8, tf.int8):
        mask = "mask" if t.dtype == tf.bool else "8-bit values"
        return "pool winners" if "Pool" in name else mask
    if t.dtype.is_integer:
        return "indices" if t.shape.rank else "count"
    if t.op.type == "Cast":
        return f"{t.dtype.name} copy"
    if t.shape.rank == 1 or "Normalization" in name and t.shape.num_elements() in t.shape:
        return "statistics" if "Normalization" in name else "ranges"
    made_by = t.op.inputs[0].op if t.op.type == "BiasAdd" else t.op
    if made_by.type in WORDS:
        return WORDS[made_by.type]
    if _leaves(t, layer, graph.layer_of):
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        return f"{activation if activation != 'linear' and made_by.type in STEPS else name} output"
    if "Normalization" in name and 1 in t.shape:
        return "statistics"
    return STEPS.get(made_by.type, f"{made_by.type} result")


def _leaves(t, layer, layer_of):
    """Whether `t` or a view of it goes to another layer."""
    return any(
        layer_of[reader] is not layer
        or any(_leaves(y, layer, layer_of) for y in reader.outputs if base(y) is base(t))
        for reader in t.consumers() if reader in layer_of  # those of the forward pass
    )
