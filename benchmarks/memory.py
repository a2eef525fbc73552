"""The bytes that a layer keeps from its forward pass for its backward pass."""

import tensorflow as tf

LISTED = ("float32", "int32", "bool", "uint8", "int64")


def kept_bytes(layer, inputs, jit=False):
    """Bytes of the tensors of the forward graph that the backward graph reads, weights aside.

    `inputs` are the arguments of a call. A tensor that is kept anyway, as the layer's input or
    output, counts too. What a loop keeps is in lists, whose size shows when they are run; of
    XLA there is no more than the graph it is given, and None where that has lists.
    """
    weights = [v.value for v in layer.trainable_variables]
    tensors, lists = {}, {}

    def forward(*inputs):
        xs = [x for x in tf.nest.flatten(inputs[0]) if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(xs)
            y = tf.nest.flatten(layer(*inputs, **training(layer)))[0]
        backward = tf.function(lambda dy: tape.gradient(y, [*xs, *weights], dy))
        graph = backward.get_concrete_function(tf.TensorSpec(y.shape, y.dtype))
        for t in graph.captured_inputs:
            if t.dtype == tf.variant:
                lists[t.ref()] = t
            elif t.dtype != tf.resource and t.op.type != "ReadVariableOp":
                tensors[t.ref()] = t
        return y, list(lists.values())

    function = tf.function(forward, jit_compile=jit)
    concrete = function.get_concrete_function(*inputs)
    size = sum(t.shape.num_elements() * t.dtype.size for t in tensors.values())
    if lists and jit:
        return None
    return size + sum(map(_list_bytes, concrete(*tf.nest.flatten(inputs))[1])) if lists else size


def training(layer):
    return {"training": True} if layer._call_has_training_arg else {}


def shown(size):
    """12.3 MB, 4.5 kB, or - where it is not known."""
    if size is None:
        return "-"
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _list_bytes(handle):
    """The bytes of a TensorList, whose dtype only its reader knows."""
    for dtype in LISTED:
        try:
            items = tf.raw_ops.TensorListStack(
                input_handle=handle, element_shape=-1, element_dtype=dtype)
        except tf.errors.InvalidArgumentError:
            continue
        return items.shape.num_elements() * items.dtype.size
    raise ValueError(f"A list of none of the dtypes {', '.join(LISTED)}")
