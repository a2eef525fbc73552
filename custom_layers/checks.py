"""What layers ask of their inputs, checked at the edge: before they are built, at every call."""

import keras

FLOAT, INTEGER, BOOL, COMPLEX, STRING = KINDS = "float", "integer", "bool", "complex", "string"
REAL = FLOAT, INTEGER, BOOL


class Checked:
    """Mixin for a layer: it refuses inputs of a dtype or a shape that it cannot compute with.

    By dtypes and static shapes alone, where Keras compares its `input_spec`: eager calls, graphs
    and symbolic ones (`keras.Input`) fail alike, before any kernel runs, and a graph keeps nothing
    of it. Sizes that are not known pass. What Keras accepts passes too, with Keras's result;
    layers that Keras lacks take floats.
    """

    takes = (FLOAT,)

    def _assert_input_compatibility(self, inputs):
        super()._assert_input_compatibility(inputs)
        for x in keras.tree.flatten(inputs):
            if hasattr(x, "dtype") and hasattr(x, "shape"):
                check_kind(self, "inputs", x, self.takes)
                if rank_is_known(x):
                    self.check_shape(tuple(x.shape))

    def check_shape(self, shape):
        """Raises a ValueError where the layer asks more of a shape than its `input_spec`."""


class CheckedImages(Checked):
    """Mixin for a layer over images (or sequences): none of known size may be empty."""

    def check_shape(self, shape):
        axes = getattr(self, "rank", len(shape) - 2) + 2
        if len(shape) != axes:
            raise ValueError(
                f"{named(self)} takes inputs of {axes} axes, batch and channels among them. "
                f"Received: inputs.shape={shape}"
            )
        if 0 in spatial(self, shape):
            raise ValueError(
                f"{named(self)} takes images of at least one pixel. "
                f"Received: inputs.shape={shape}, data_format={self.data_format}"
            )


class CheckedWindows(CheckedImages):
    """Mixin for a convolution or pooling layer: its windows fit into the padded image."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if min(self.strides) < 1:  # Keras lets a pooling layer's be 0
            raise ValueError(f"`strides` must be > 0. Received: strides={self.strides}")

    def check_shape(self, shape):
        super().check_shape(shape)
        kernel = getattr(self, "kernel_size", None) or self.pool_size
        channels = shape[-1 if self.data_format == "channels_last" else 1]
        if channels is None and hasattr(self, "kernel_size") and not self.built:
            raise ValueError(
                f"{named(self)} needs a known number of channels, for its weights. "
                f"Received: inputs.shape={shape}, data_format={self.data_format}"
            )
        if self.padding != "valid":
            return
        dilation = getattr(self, "dilation_rate", None) or (1,) * len(kernel)
        reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation))
        pads = getattr(self, "explicit_padding", None) or ((0, 0),) * len(kernel)
        for size, r, p in zip(spatial(self, shape), reach, pads):
            if size is not None and size + sum(p) < r:
                raise ValueError(
                    f"The windows of {named(self)}, of {' x '.join(map(str, reach))} pixels, "
                    "do not fit into its image: Computed output size would be zero or negative. "
                    f"Received: inputs.shape={shape}, window={reach}, padding={pads}, "
                    f"data_format={self.data_format}"
                )


class CheckedRecurrent(Checked):
    """Mixin for LSTM and GRU: rates of dropout, and what goes along with the sequences."""

    takes = REAL

    def __init__(self, *args, **kwargs):
        # Keras clips them silently.
        check_rate(**{n: kwargs[n] for n in ("dropout", "recurrent_dropout") if n in kwargs})
        super().__init__(*args, **kwargs)

    def check_shape(self, shape):
        if shape[1] == 0:
            raise ValueError(
                f"{named(self)} takes sequences of at least one step. "
                f"Received: sequences.shape={shape}"
            )
        features = self.cell.kernel.shape[0] if self.cell.built else None
        if None not in (features, shape[2]) and shape[2] != features:
            raise ValueError(
                f"{named(self)} was built for sequences of {features} features. "
                f"Received: sequences.shape={shape}"
            )

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        if initial_state_shape is not None:
            self.check_states(initial_state_shape, sequences_shape)
        return super().compute_output_shape(sequences_shape, initial_state_shape)

    def check_states(self, shapes, sequences_shape):
        """Refuses initial states of another number or shape than the cell's."""
        shapes = [tuple(shapes)] if _is_shape(shapes) else [tuple(s) for s in shapes]
        expected = [(sequences_shape[0], n) for n in keras.tree.flatten(self.cell.state_size)]
        if len(shapes) != len(expected) or not all(map(compatible, shapes, expected)):
            raise ValueError(
                f"`initial_state` of {named(self)} must be of the shapes (batch, units) = "
                f"{expected}. Received: initial_state of shapes {shapes}"
            )


def rank_is_known(x):
    return getattr(x.shape, "rank", 0) is not None


def compatible(a, b):
    """Whether two shapes may be the same, sizes that are not known being any."""
    return len(a) == len(b) and all(m is None or n is None or m == n for m, n in zip(a, b))


def _is_shape(shape):
    return all(n is None or isinstance(n, int) for n in shape)


class CheckedLoss:
    """Mixin for a loss: it compares numbers, and weighs samples, not one by those of all others.

    `loss_shape` says which sizes of the outputs those of the loss are.
    """

    loss_shape = slice(None, -1)

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true, y_pred = _tensor(y_true), _tensor(y_pred)
        for name, t in (("y_true", y_true), ("y_pred", y_pred)):
            check_kind(self, name, t, REAL)
        if not rank_is_known(y_pred):
            return super().__call__(y_true, y_pred, sample_weight)
        if not len(y_pred.shape):
            raise ValueError(
                f"{named(self)} takes outputs of a batch. Received: y_pred.shape={y_pred.shape}"
            )
        sample_weight = None if sample_weight is None else _tensor(sample_weight)
        if sample_weight is not None and rank_is_known(sample_weight):
            shape = tuple(y_pred.shape)[self.loss_shape]
            given = tuple(sample_weight.shape)
            if not (compatible(given, shape) or compatible(given, (*shape, 1))
                    or compatible((*given, 1), shape) or broadcasts(given, shape)):
                raise ValueError(
                    f"`sample_weight` of {named(self)} must have, or broadcast to, the shape of "
                    f"the loss, {shape}. Received: sample_weight.shape={given}, "
                    f"y_pred.shape={tuple(y_pred.shape)}"
                )
        return super().__call__(y_true, y_pred, sample_weight)


def _tensor(x):
    return x if hasattr(x, "dtype") else keras.ops.convert_to_tensor(x)


def broadcasts(given, shape):
    """Whether `given` broadcasts against `shape` to no more than it."""
    ends = zip(reversed(given), reversed(shape))
    return len(given) <= len(shape) and all(None in (m, n) or m in (1, n) for m, n in ends)


def named(it):
    """A layer or a loss by its class and its name: `Dense 'hidden'`."""
    return f"{type(it).__name__} {it.name!r}"


def spatial(layer, shape):
    """The sizes of a shape along the axes that are neither batch nor channels."""
    return shape[1:-1] if layer.data_format == "channels_last" else shape[2:]


def kind_of(x):
    """The kind of a tensor's dtype, one of `KINDS`."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype in (BOOL, STRING):
        return dtype
    return next((k for k, start in ((INTEGER, ("int", "uint")), (COMPLEX, COMPLEX), (FLOAT, ""))
                 if dtype.startswith(start)), None)


def check_kind(layer, argument, x, kinds):
    """Refuses a tensor whose dtype is of none of `kinds`; None allows all."""
    if kinds is not None and kind_of(x) not in kinds:
        raise ValueError(
            f"{named(layer)} takes `{argument}` of dtype {' or '.join(kinds)}. Received: "
            f"{argument}.dtype={keras.backend.standardize_dtype(x.dtype)}"
        )


def check_axis(layer, axis, shape):
    """Refuses an axis, or one of several, that the inputs do not have."""
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    if not all(-len(shape) <= a < len(shape) for a in axes):
        raise ValueError(
            f"`axis` of {named(layer)} must be one of the {len(shape)} axes of its inputs. "
            f"Received: axis={axis}, inputs.shape={shape}"
        )


def check_mask(layer, mask, shape):
    """Refuses a mask of another shape than `shape`."""
    if not compatible(tuple(mask.shape), tuple(shape)):
        raise ValueError(
            f"`mask` of layer {layer.name} must have the shape {tuple(shape)}. "
            f"Received: mask.shape={tuple(mask.shape)}"
        )


def check_broadcast(layer, argument, given, shape):
    """Refuses what broadcasts against the inputs to more than their own shape, or not at all."""
    given, shape = tuple(given), tuple(shape)
    if not broadcasts(given, shape):
        raise ValueError(
            f"`{argument}` of {named(layer)} must broadcast to the shape of its inputs. "
            f"Received: shape of {argument}={given}, inputs.shape={shape}"
        )


def check_finite(**arguments):
    """Refuses infinite numbers (NaN is refused everywhere, by `register`)."""
    for name, value in arguments.items():
        if not abs(value) < float("inf"):
            raise ValueError(f"`{name}` must be a finite number. Received: {name}={value}")


def check_rate(**arguments):
    """Refuses what is no probability to drop a unit: in [0, 1), for some must stay."""
    for name, value in arguments.items():
        if not 0 <= value < 1:
            raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value}")
