"""LSTM: long short-term memory, back-propagation through time by hand."""

import keras
import tensorflow as tf

from custom_layers.checks import CheckedRecurrent
from custom_layers.gradient import differentiable
from custom_layers.recurrent import (
    ACTIVATIONS,
    before,
    check_arguments,
    check_shapes,
    computes_again,
    input_dropout,
    inputs_of,
    layer_mask,
    outputs_of,
    scan,
    sequence_mask,
    settings_of,
    weights_gradient,
    wide,
)
from custom_layers.registration import register


@differentiable
def lstm(x, w, u, b=None, h0=None, c0=None, mask=None, factor=None, *, activation="tanh",
         recurrent_activation="sigmoid", return_sequences=True, go_backwards=False,
         zero_output_for_mask=False, unroll=False):
    """Long short-term memory over whole sequences.

    Forward:   at each step t, with s the recurrent activation and a the activation,
               [zi, zf, zg, zo] = x_t w + h_(t-1) u + b
               i = s(zi), f = s(zf), g = a(zg), o = s(zo)
               c_t = f * c_(t-1) + i * g,  h_t = o * a(c_t)
               where the mask is False: c_t = c_(t-1), h_t = h_(t-1)
    Backward:  from the last step to the first, with dh, dc what later steps (and y) hand back,
               dc += dh * o * a'(c_t)
               dzi = dc * g * s'(zi),  dzf = dc * c_(t-1) * s'(zf),  dzg = dc * i * a'(zg),
               dzo = dh * a(c_t) * s'(zo),  dz = [dzi, dzf, dzg, dzo]
               dh_(t-1) = dz ut,  dc_(t-1) = dc * f  (where the mask is False: dh, dc pass, dz = 0)
               then dx_t = dz wt, dw = sum x_tt dz, du = sum h_(t-1)t dz, db = sum dz
    Shapes:    x (N, T, D), w (D, 4U), u (U, 4U), b (4U,) or None, h0, c0 (N, U) or None (zeros),
               mask (N, T) or None, factor (N, D) or None (dropout: x_t * factor in place of x_t)
               -> y (N, T, U) or, without return_sequences, the last step's (N, U);
               h_T, c_T (N, U)
    Settings:  activations "tanh", "sigmoid", "hard_sigmoid", "relu", "linear"; go_backwards
               reads from the last step, and y comes in the order read; y before the first step
               that the mask lets through is 0, later h_t, with zero_output_for_mask 0 wherever
               the mask is False; unroll: steps written out in the graph instead of a loop
    Keeps h, c and the four gates of each step; under XLA and in half precision h and c, from which
               it computes the gates again. Half precision: products in it, all else in float32
    Kinks:     those of relu and hard_sigmoid, where chosen. `factor` is a constant: no gradient
    Raises:    ValueError where shapes do not belong together or there is no step
    Source:    Hochreiter, Schmidhuber, Long Short-Term Memory, 1997; Gers, Schmidhuber, Cummins,
               Learning to Forget, 2000 (f); without peepholes.
    """
    units = u.shape[0]
    check_shapes("lstm", 4, x, w, u, b, (4 * units,), (h0, c0), mask)
    a, a_grad = ACTIVATIONS[activation]
    s, s_grad = ACTIVATIONS[recurrent_activation]
    items, inputs_backward = inputs_of(x, w, b, factor, go_backwards)
    h_first, c_first = (tf.zeros((tf.shape(x)[0], units), x.dtype) if t is None else t
                        for t in (h0, c0))
    masks = () if mask is None else (sequence_mask(mask, go_backwards),)
    again = computes_again(x.dtype)

    def gates(item, h):
        z = tf.matmul(item, w) + tf.matmul(h, u)
        # After both products: right after one, TensorFlow fuses the two into a slower kernel.
        z = wide(z if b is None else tf.nn.bias_add(z, b))
        zi, zf, zg, zo = tf.split(z, 4, 1)
        return s(zi), s(zf), a(zg), s(zo)

    def step(state, item, *mask):
        h, c = state
        i, f, g, o = gates(item, h)
        c_new = f * c + i * g
        h_new = tf.cast(o * a(c_new), h.dtype)
        if mask:
            h_new, c_new = tf.where(mask[0], h_new, h), tf.where(mask[0], c_new, c)
        kept = (c,) if again else (c, i, f, g, o)
        return (h_new, c_new), (h_new, *(tf.cast(t, x.dtype) for t in kept))

    widths = [units] * (2 if again else 6)
    (h_last, c_last), (h, c_before, *kept) = scan(
        step, (h_first, wide(c_first)), (items, *masks), widths, unroll=unroll
    )
    y, outputs_backward = outputs_of(
        h, h_last, *masks or (None,), return_sequences, zero_output_for_mask
    )

    def backward(dy, dh_last, dc_last):
        dy, h_before = outputs_backward(dy), before(h_first, h)

        ut = tf.transpose(u)

        def step_backward(state, c_before, *rest):
            dh, dc, c = state
            rest, c_before = list(rest), wide(c_before)
            if return_sequences:
                dh = dh + wide(rest.pop(0))
            dh_passed, dc_passed = dh, dc
            if masks:
                seen = rest.pop(0)
                dh, dc = (tf.where(seen, t, tf.zeros((), t.dtype)) for t in (dh, dc))
            i, f, g, o = gates(*rest) if again else (wide(t) for t in rest)
            a_c = a(c)
            dc = dc + a_grad(a_c, dh * o)
            dz = (s_grad(i, dc * g), s_grad(f, dc * c_before), a_grad(g, dc * i),
                  s_grad(o, dh * a_c))
            dz = tf.cast(tf.concat(dz, 1), x.dtype)
            dh, dc = wide(tf.matmul(dz, ut)), dc * f
            if masks:
                dh, dc = tf.where(seen, dh, dh_passed), tf.where(seen, dc, dc_passed)
            return (dh, dc, c_before), (dz,)

        dh = wide(dh_last) if return_sequences else wide(dh_last) + wide(dy)
        sequences = (c_before, *((dy,) if return_sequences else ()), *masks,
                     *((items, h_before) if again else kept))
        (dh, dc, _), (dz,) = scan(
            step_backward, (dh, wide(dc_last), c_last), sequences, (4 * units,),
            reverse=True, unroll=unroll,
        )
        dx, dw, db = inputs_backward(dz)
        return (dx, dw, weights_gradient(h_before, dz), db,
                None if h0 is None else tf.cast(dh, h0.dtype),
                None if c0 is None else tf.cast(dc, c0.dtype), None, None)

    return (y, h_last, tf.cast(c_last, x.dtype)), backward


@register
class LSTM(CheckedRecurrent, keras.layers.LSTM):
    """`keras.layers.LSTM` on the op `lstm`.

    Masks, initial states, `stateful`, `go_backwards`, `unroll` and input dropout run through the
    op, and so inside `keras.layers.Bidirectional`. Keras's own arithmetic runs where the op has
    none: activations other than tanh, sigmoid, hard_sigmoid, relu and linear, recurrent
    dropout in training, input dropout with `implementation=1`, and `use_cudnn=True`.
    With `use_cudnn="auto"` the op runs on a GPU too, and XLA may compile it.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.use_cudnn is not True:
            self.supports_jit = True

    def inner_loop(self, sequences, initial_state, mask, training=False):
        check_arguments(self, sequences, initial_state, mask)
        settings = settings_of(self, training)
        if settings is None:
            # Keras's LSTM tries cuDNN first, and fails on the list of masks of `implementation=1`.
            stock = keras.layers.LSTM if self.use_cudnn is True else keras.layers.RNN
            return stock.inner_loop(self, sequences, initial_state, mask, training=training)
        cell = self.cell
        sequences = tf.cast(sequences, self.compute_dtype)
        y, h, c = lstm(sequences, cell.kernel, cell.recurrent_kernel, cell.bias, *initial_state,
                       layer_mask(mask), input_dropout(self, sequences, training), **settings)
        return y, y, [h, c]
