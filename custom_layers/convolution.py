"""Convolution: the op `conv2d`, the layers Conv2D and Conv1D."""

import functools

import keras
import tensorflow as tf

from custom_layers.activations import activate
from custom_layers.checks import CheckedWindows
from custom_layers.convolution_algorithms import ALGORITHMS, with_bias
from custom_layers.empty_batch import right_on_empty_batch
from custom_layers.gradient import differentiable
from custom_layers.registration import register
from custom_layers.windows import channels_last


@differentiable
@right_on_empty_batch
def conv2d(
    x,
    w,
    b=None,
    *,
    strides=(1, 1),
    padding="valid",
    dilation=(1, 1),
    groups=1,
    data_format="channels_last",
    algorithm="native",
):
    """Two-dimensional convolution (as in the field: cross-correlation) with an optional bias.

    Forward:   y[n,p,q,o] = b[o] + sum over i,j,c of xp[n, p*S + i*D, q*S + j*D, c] * w[i,j,c,o]
               with xp the padded x, S the stride, D the dilation
    Backward:  dx = the same sum read from y to x, cropped to x (the adjoint),
               dw[i,j,c,o] = sum over n,p,q of xp[n, p*S + i*D, q*S + j*D, c] * dy[n,p,q,o],
               db[o] = sum over n,p,q of dy[n,p,q,o]
    Shapes:    x (N, H, W, C), w (FH, FW, C / groups, O), b (O,) or None -> y (N, OH, OW, O),
               OH = floor((H + P - D * (FH - 1) - 1) / S) + 1, P the padding of both sides;
               channels_first: x (N, C, H, W) -> y (N, O, OH, OW)
    Settings:  padding "valid", "same" or ((top, bottom), (left, right)); with groups, output
               channels O/groups * g .. see only the input channels of group g; algorithm
               "native" (TensorFlow's kernels), "im2col" (one matrix product over patches),
               "toeplitz" (one product with the doubly blocked matrix), "fft" (products of
               frequencies; on CPUs faster for large kernels of many channels): equal results,
               but for rounding
    Source:    Goodfellow, Bengio, Courville, Deep Learning, 2016, sections 9.1, 9.5;
               Chellapilla, Puri, Simard, High Performance Convolutional Neural Networks, 2006.
    """
    algorithm = functools.partial(
        ALGORITHMS[algorithm], strides=strides, padding=padding, dilation=dilation
    )

    def convolve(x):
        return with_bias(*_grouped(algorithm, x, w, groups), b)

    return channels_last(convolve, x, data_format)


def _grouped(convolve, x, w, groups):
    """Splits the channels into groups, convolves each with its filters, concatenates."""
    if groups == 1:
        return convolve(x, w)
    parts = zip(tf.split(x, groups, 3), tf.split(w, groups, 3))
    ys, backwards = zip(*(convolve(x_group, w_group) for x_group, w_group in parts))

    def backward(dy):
        dys = tf.split(dy, groups, 3)
        dxs, dws = zip(*(back(dy_group) for back, dy_group in zip(backwards, dys)))
        return tf.concat(dxs, 3), tf.concat(dws, 3)

    return tf.concat(ys, 3), backward


@differentiable
def conv1d(x, w, b=None, *, stride=1, padding="valid", dilation=1, groups=1,
           data_format="channels_last"):
    """One-dimensional convolution: `conv2d` on images of height one.

    Forward:   y[n,p,o] = b[o] + sum over i,c of xp[n, p*S + i*D, c] * w[i,c,o]
    Backward:  that of conv2d
    Shapes:    x (N, L, C), w (F, C / groups, O), b (O,) or None -> y (N, OL, O);
               channels_first: x (N, C, L) -> y (N, O, OL)
    Settings:  padding also "causal": F - 1 (times D) zeros before, so that y[p] sees no x after p
    Source:    Waibel et al., Phoneme Recognition Using Time-Delay Neural Networks, 1989; van den
               Oord et al., WaveNet, 2016, section 2.1 (causal, dilated).
    """
    height = 1 if data_format == "channels_last" else 2
    if padding == "causal":
        padding = (0, 0), (dilation * (w.shape[0] - 1), 0)
    y, conv2d_backward = conv2d.pair(
        tf.expand_dims(x, height), w[None], b, strides=(1, stride), padding=padding,
        dilation=(1, dilation), groups=groups, data_format=data_format,
    )

    def backward(dy):
        dx, dw, db = conv2d_backward(tf.expand_dims(dy, height))
        return tf.squeeze(dx, height), dw[0], db

    return tf.squeeze(y, height), backward


@register
class Conv2D(CheckedWindows, keras.layers.Conv2D):
    """`keras.layers.Conv2D` on the op `conv2d`, with three more settings.

    Args:
        padding: also an integer (rows and columns on each side), a pair (rows, columns) or
            `((top, bottom), (left, right))`.
        algorithm: `"native"` (the default), `"im2col"`, `"toeplitz"` (small images of known
            size) or `"fft"` (on CPUs faster for kernels of 7x7 and more between many channels).
            They give equal results, but for rounding.
        strict: if True, a size that the stride does not divide evenly is an error that shows
            the arithmetic, instead of rows or columns that no window sees.
        All other arguments are Keras's.

    Raises:
        ValueError: for an unknown algorithm, a padding of another form, and with `strict` for
            a size that does not divide.
    """

    def __init__(self, filters, kernel_size, strides=(1, 1), padding="valid", *args,
                 algorithm="native", strict=False, **kwargs):
        if algorithm not in ALGORITHMS:
            raise ValueError(
                f"`algorithm` must be one of {', '.join(ALGORITHMS)}. "
                f"Received: algorithm={algorithm}"
            )
        self.explicit_padding = None if isinstance(padding, str) else _explicit(padding)
        keras_padding = "valid" if self.explicit_padding else padding
        super().__init__(filters, kernel_size, strides, keras_padding, *args, **kwargs)
        self.algorithm = algorithm
        self.strict = strict

    def check_shape(self, shape):
        super().check_shape(shape)
        if self.strict:
            self.compute_output_shape(shape)  # its check

    def convolution_op(self, inputs, kernel):
        return conv2d(inputs, kernel, **self.settings)

    def call(self, inputs):
        if type(self).convolution_op is not Conv2D.convolution_op:  # a subclass has its own
            return super().call(inputs)
        op = functools.partial(conv2d.pair, **self.settings)
        return activate(op, (inputs, self.kernel, self.bias), self.activation)

    @property
    def settings(self):
        """The settings of the op."""
        return dict(
            strides=self.strides,
            padding=self.explicit_padding or self.padding,
            dilation=self.dilation_rate,
            groups=self.groups,
            data_format=self.data_format,
            algorithm=self.algorithm,
        )

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        rows = 1 if self.data_format == "channels_last" else 2
        for axis, pads in enumerate(self.explicit_padding or (), rows):
            shape[axis] = None if shape[axis] is None else shape[axis] + sum(pads)
        if self.strict and self.padding != "same":
            self._check_division(input_shape[rows:rows + 2], shape[rows:rows + 2])
        return super().compute_output_shape(tuple(shape))

    def _check_division(self, sizes, padded):
        for name, size, full, k, s, d in zip(
            ("height", "width"), sizes, padded, self.kernel_size, self.strides, self.dilation_rate
        ):
            if size is not None and (full - d * (k - 1) - 1) % s:
                raise ValueError(
                    f"With `strict=True` the {name} must divide evenly: ({size} + {full - size} - "
                    f"{d} * ({k} - 1) - 1) / {s} = {(full - d * (k - 1) - 1) / s:g}. Change the "
                    f"padding, the stride or the image. Received: {name}={size}, "
                    f"padding={full - size}, dilation={d}, kernel={k}, stride={s}"
                )

    def get_config(self):
        config = super().get_config()
        config.update(algorithm=self.algorithm, strict=self.strict)
        if self.explicit_padding:
            config["padding"] = self.explicit_padding
        return config


def _explicit(padding):
    """((top, bottom), (left, right)) of an integer, a pair or two pairs."""
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    pads = tuple((p, p) if isinstance(p, int) else tuple(p) for p in (rows, columns))
    if not all(len(p) == 2 and all(isinstance(n, int) and n >= 0 for n in p) for p in pads):
        raise ValueError(
            "`padding` must be 'valid', 'same', an integer >= 0, a pair of them (rows, columns) "
            f"or ((top, bottom), (left, right)). Received: padding={padding}"
        )
    return pads


@register
class Conv1D(CheckedWindows, keras.layers.Conv1D):
    """`keras.layers.Conv1D` on the op `conv1d`."""

    def call(self, inputs):
        op = functools.partial(
            conv1d.pair,
            stride=self.strides[0],
            padding=self.padding,
            dilation=self.dilation_rate[0],
            groups=self.groups,
            data_format=self.data_format,
        )
        return activate(op, (inputs, self.kernel, self.bias), self.activation)
