"""What a gradient check is made of: an op, layer, loss or model as a function of its tensors."""

import contextlib
import copy
import inspect

import keras
import numpy as np
import tensorflow as tf

_FLOATS = ("float16", "bfloat16", "float32", "float64")


class Subject:
    """`target` at `inputs` in one precision: tensors to differentiate by, and a call.

    `names`, `values` are the tensors: the float inputs and the trainable weights. `skipped` says
    of every other input why it is held constant. `state` are the variables that a call may
    move (batch statistics, seeds); `load` sets them back, so that every call starts alike.
    """

    def __init__(self, target, inputs, *, dtype, training=None, skip=(), weights_of=None):
        if not callable(target):
            raise TypeError(
                "`target` must be a function of tensors, a keras layer, loss or model. "
                f"Received: target={target!r}"
            )
        self.name = getattr(target, "name", None) or getattr(
            target, "__name__", type(target).__name__
        )
        self._structure = inputs
        names = _input_names(target, inputs)
        for name, x in zip(names, tf.nest.flatten(inputs)):
            if name not in skip:
                _refuse_complex(name, x)
        for variable in getattr(target, "trainable_variables", ()):
            _refuse_complex(variable.name, variable)
        self._inputs = [_constant(x, dtype) for x in tf.nest.flatten(inputs)]
        self._call = _calling(target, inputs, training)
        if not getattr(target, "built", True):
            _calling(target, inputs, training=False)(self._packed(self._inputs))
        if weights_of is not None and getattr(weights_of, "built", False):
            for variable, twin in zip(weights_of.variables, target.variables, strict=True):
                twin.assign(keras.ops.cast(variable, twin.dtype))

        unknown = set(skip) - set(names)
        if unknown:
            raise ValueError(
                f"`skip` must name inputs: {', '.join(names)}. Received: skip={tuple(skip)}"
            )
        if isinstance(target, keras.losses.Loss) and not skip:
            skip = ("y_true",)
        self.skipped = {
            name: _why_constant(x)
            for name, x in zip(names, self._inputs)
            if x is None or name in skip or not x.dtype.is_floating
        }
        self._positions = [i for i, name in enumerate(names) if name not in self.skipped]
        self._weights = list(getattr(target, "trainable_variables", ()))
        for variable in self._weights:
            _refuse_complex(variable.name, variable)
        self.state = list(getattr(target, "non_trainable_variables", ()))
        self.names = [names[i] for i in self._positions] + _short_names(self._weights)
        self.values = [self._inputs[i].numpy() for i in self._positions]
        self.values += [w.numpy() for w in self._weights]
        self._state_values = [v.numpy() for v in self.state]
        self._original = list(zip(self._weights + self.state, self.values[len(self._positions):]
                                  + self._state_values))
        if not self.names:
            raise ValueError(
                "There is nothing to differentiate by: no float input, no trainable weight. "
                f"Received: inputs={self.skipped}"
            )
        for name, value in zip(self.names, self.values):
            if not value.size:
                raise ValueError(
                    "A gradient can only be checked by tensors that have elements. "
                    f"Received: {name} of shape {value.shape}"
                )

    def perturb_weights(self, amount, generator):
        """Moves the weights off special values (a scale of 1, a bias of 0) that hide errors."""
        for i in range(len(self._positions), len(self.values)):
            value = self.values[i]
            size = np.sqrt(np.mean(np.square(value))) or 1.0
            noise = generator.standard_normal(value.shape)
            self.values[i] = (value + amount * size * noise).astype(value.dtype)

    def load(self, values):
        """Sets the weights to their `values` and the state to what it was at first."""
        for variable, value in zip(self._weights, values[len(self._positions):]):
            variable.assign(value)
        for variable, value in zip(self.state, self._state_values):
            variable.assign(value)

    def sources(self, values):
        """What to differentiate by: the inputs' `values` themselves, and the weights."""
        return list(values[:len(self._positions)]) + [w.value for w in self._weights]

    def call(self, sources):
        """The float outputs, as a list."""
        arguments = list(self._inputs)
        for position, value in zip(self._positions, sources):
            arguments[position] = value
        outputs = tf.nest.flatten(self._call(self._packed(arguments)))
        outputs = [tf.convert_to_tensor(y) for y in outputs]
        for i, y in enumerate(outputs):
            _refuse_complex(f"output {i}", y)
        return [y for y in outputs if y.dtype.is_floating]

    def forward(self, values):
        """The float outputs, and the state that the forward pass leaves."""
        self.load(values)
        outputs = self.call(self.sources(values))
        return outputs, [tf.identity(variable.value) for variable in self.state]

    def gradients(self, values, upstream):
        """The outputs, the gradients by the sources, and the state that they leave."""
        self.load(values)
        sources = self.sources(values)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = self.call(sources)
        gradients = tape.gradient(outputs, sources, upstream)
        gradients = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
        return outputs, gradients, [tf.identity(variable.value) for variable in self.state]

    def weighted(self, values, upstream):
        """u * y as one flat array: its sum is what is differentiated."""
        outputs, _ = self.forward(values)
        return tf.concat([tf.reshape(u * y, [-1]) for u, y in zip(upstream, outputs)], axis=0)

    def restore(self):
        """Leaves the target as it was."""
        for variable, value in self._original:
            variable.assign(value)

    def _packed(self, flat):
        return tf.nest.pack_sequence_as(self._structure, flat)


def in_dtype(target, dtype):
    """`target` computing in float64, or not: itself where it does, else a copy.

    A layer or model is copied by its config; its weights are the caller's to copy, once built.
    A layer that is to leave float64 computes in float32; one that never was in it (mixed
    precision) is left as it is.
    """
    wide = dtype == "float64"
    if isinstance(target, keras.losses.Loss):
        if (target.dtype == "float64") == wide:
            return target
        twin = copy.copy(target)
        twin._dtype_policy, twin._dtype = keras.DTypePolicy(dtype), dtype
        return twin
    if not isinstance(target, keras.layers.Layer):
        return target
    layers = target._flatten_layers()
    if all(layer.dtype_policy.name == "float64" for layer in layers) == wide:
        return target
    classes = {type(layer).__name__: type(layer) for layer in layers}
    try:
        with precision(dtype), keras.utils.custom_object_scope(classes):
            return type(target).from_config(_config_in(target.get_config(), dtype))
    except Exception as error:
        raise ValueError(
            f"`{target.name}` must be checked in {dtype} and cannot be rebuilt from its config. "
            f"Give it with dtype=\"{dtype}\", or a get_config() that from_config() accepts. "
            f"Received: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error


@contextlib.contextmanager
def precision(dtype):
    """Makes `dtype` Keras's default: for layers made in a layer, losses and plain numbers."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def draws_random_numbers(concrete_function):
    """Whether an op of the graph does. XLA draws others from a seed than TensorFlow does."""
    graph = concrete_function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return any("Random" in node.op or "TruncatedNormal" in node.op for node in nodes)


def _constant(x, dtype):
    """`x` as a tensor, in `dtype` if it is of a float type. None stays None: not given."""
    if x is None:
        return None
    x = tf.convert_to_tensor(x)
    return tf.cast(x, dtype) if x.dtype.is_floating else x


def _refuse_complex(name, x):
    """Raises a TypeError for a complex tensor: its derivative depends on a convention."""
    dtype = getattr(x, "dtype", None)
    dtype = np.asarray(x).dtype if dtype is None and x is not None else dtype
    if dtype is not None and tf.as_dtype(dtype).is_complex:
        raise TypeError(
            "Gradients are checked by real tensors and of real outputs. Give the real and the "
            "imaginary part as two real tensors (tf.complex(re, im) inside the function; "
            "tf.math.real and tf.math.imag of what it returns), or name an input in `skip`. "
            f"Received: {name} of dtype {tf.as_dtype(dtype).name}"
        )


def _why_constant(x):
    if x is None:
        return "not given"
    return "held constant" if x.dtype.is_floating else x.dtype.name


def _calling(target, inputs, training):
    """A function of the inputs, in their structure, that calls `target` as it wants."""
    if not isinstance(target, keras.layers.Layer):
        spread = isinstance(inputs, (list, tuple))
        return lambda x: target(*x) if spread else target(x)
    if isinstance(inputs, (list, tuple)) and (len(inputs) == 1 or _tensors_of(target) > 1):
        return lambda x: target(*x, training=training)
    return lambda x: target(x, training=training)


def _tensors_of(layer):
    """How many tensors the layer's call wants by position."""
    parameters = inspect.signature(layer.call).parameters.values()
    return sum(p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD for p in parameters)


def _input_names(target, inputs):
    """A name for each input: that of the parameter, or its place in the structure."""
    if isinstance(target, keras.losses.Loss):
        return ["y_true", "y_pred"]
    called = target.call if isinstance(target, keras.layers.Layer) else target
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if isinstance(inputs, dict):
        return [str(key) for key in sorted(inputs)]
    count = len(tf.nest.flatten(inputs))
    if not isinstance(inputs, (list, tuple)):
        return (names or ["x"])[:1] if count == 1 else [f"input {i}" for i in range(count)]
    if isinstance(target, keras.layers.Layer) and count > 1 and _tensors_of(target) <= 1:
        return [f"{(names or ['inputs'])[0]}[{i}]" for i in range(count)]
    return (names + [f"input {i}" for i in range(len(names), count)])[:count]


def _short_names(variables):
    """The variables' names; their paths where two have one name."""
    names = [v.name for v in variables]
    paths = [getattr(v, "path", v.name) for v in variables]
    return [n if names.count(n) == 1 else p for n, p in zip(names, paths)]


def _config_in(config, dtype):
    """A config with every float dtype in it replaced."""
    if isinstance(config, (list, tuple)):
        return type(config)(_config_in(c, dtype) for c in config)
    if not isinstance(config, dict):
        return config
    return {
        key: dtype if key == "dtype" and _is_float(value) else _config_in(value, dtype)
        for key, value in config.items()
    }


def _is_float(dtype):
    return dtype is None or isinstance(dtype, dict) or dtype in _FLOATS
