"""GRU: gated recurrent unit, back-propagation through time by hand."""

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
from custom_layers.tracing import sum_rows


@differentiable
def gru(x, w, u, b=None, h0=None, mask=None, factor=None, *, reset_after=True, activation="tanh",
        recurrent_activation="sigmoid", return_sequences=True, go_backwards=False,
        zero_output_for_mask=False, unroll=False):
    """Gated recurrent unit over whole sequences.

    Forward:   at each step t, with s the recurrent activation and a the activation, u in the
               parts [uz, ur, ug], [xz, xr, xg] = x_t w + b
               z = s(xz + h_(t-1) uz),  r = s(xr + h_(t-1) ur)
               g = a(xg + (r * h_(t-1)) ug), or with reset_after
               m = h_(t-1) u + b', split so too: z = s(xz + mz), r = s(xr + mr), g = a(xg + r * mg)
               h_t = z * h_(t-1) + (1 - z) * g;  where the mask is False: h_t = h_(t-1)
    Backward:  from the last step to the first, with dh what later steps (and y) hand back,
               dg = dh * (1 - z) * a'(g),  dz = dh * (h_(t-1) - g) * s'(z)
               q = dg ugt,  dr = q * h_(t-1) * s'(r),
               dh_(t-1) = dh * z + q * r + [dz, dr] [uz, ur]t,  dug += (r * h_(t-1))t dg
               or with reset_after dr = dg * mg * s'(r),  dm = [dz, dr, dg * r],
               dh_(t-1) = dh * z + dm ut,  du += h_(t-1)t dm,  db' += dm
               where the mask is False: dh_(t-1) = dh, all others 0
               then dx_t = d wt, dw = sum x_tt d, db = sum d with d = [dz, dr, dg]
    Shapes:    x (N, T, D), w (D, 3U), u (U, 3U), b (3U,), with reset_after (2, 3U) (b and b'), or
               None, h0 (N, U) or None (zeros), mask (N, T) or None, factor (N, D) or None
               (dropout: x_t * factor in place of x_t)
               -> y (N, T, U) or, without return_sequences, the last step's (N, U);  h_T (N, U)
    Settings:  as those of `lstm`; reset_after: the reset gate acts after the product with u
    Keeps h, z, r, g and with reset_after mg of each step; under XLA and in half precision h, from
               which it computes the gates again. Half precision: products in it, all else in
               float32
    Kinks:     those of relu and hard_sigmoid, where chosen. `factor` is a constant: no gradient
    Raises:    ValueError where shapes do not belong together or there is no step
    Source:    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, 2014,
               section 2.3, version 3 of the preprint for reset_after=False, 1 for True.
    """
    units = u.shape[0]
    bias_shape = (2, 3 * units) if reset_after else (3 * units,)
    check_shapes("gru", 3, x, w, u, b, bias_shape, (h0,), mask)
    a, a_grad = ACTIVATIONS[activation]
    s, s_grad = ACTIVATIONS[recurrent_activation]
    b_x, b_h = (b, None) if b is None or not reset_after else tf.unstack(b)
    items, inputs_backward = inputs_of(x, w, b_x, factor, go_backwards)
    first = tf.zeros((tf.shape(x)[0], units), x.dtype) if h0 is None else h0
    masks = () if mask is None else (sequence_mask(mask, go_backwards),)
    u_zr, u_g = tf.split(u, (2 * units, units), 1)
    again = computes_again(x.dtype)

    def gates(item, h):
        """z, r, g and what r resets."""
        xz, xr, xg = tf.split(wide(_product(item, w, b_x)), 3, 1)
        if reset_after:
            mz, mr, mg = tf.split(wide(_product(h, u, b_h)), 3, 1)
            r = s(xr + mr)
            return s(xz + mz), r, a(xg + r * mg), mg
        mz, mr = tf.split(wide(tf.matmul(h, u_zr)), 2, 1)
        r = s(xr + mr)
        mg = tf.matmul(tf.cast(r, h.dtype) * h, u_g)
        return s(xz + mz), r, a(xg + wide(mg)), wide(h)

    def step(state, item, *mask):
        h, = state
        z, r, g, reset = gates(item, h)
        h_new = tf.cast(g + z * (wide(h) - g), h.dtype)
        if mask:
            h_new = tf.where(mask[0], h_new, h)
        kept = () if again else (z, r, g, reset)
        return (h_new,), (h_new, *(tf.cast(t, x.dtype) for t in kept))

    (last,), (h, *kept) = scan(
        step, (first,), (items, *masks), [units] * (1 if again else 5), unroll=unroll
    )
    y, outputs_backward = outputs_of(
        h, last, *masks or (None,), return_sequences, zero_output_for_mask
    )

    def backward(dy, dh_last):
        dy, h_before = outputs_backward(dy), before(first, h)

        def step_backward(state, h, *rest):
            dh, = state
            rest = list(rest)
            if return_sequences:
                dh = dh + wide(rest.pop(0))
            dh_passed = dh
            if masks:
                seen = rest.pop(0)
                dh = tf.where(seen, dh, tf.zeros((), dh.dtype))
            z, r, g, reset = gates(rest[0], h) if again else (wide(t) for t in rest)
            h = wide(h)
            dh_kept = dh * z
            dz, dg = s_grad(z, dh * (h - g)), a_grad(g, dh - dh_kept)
            if reset_after:
                dr = s_grad(r, dg * reset)
                other = tf.cast(tf.concat([dz, dr, dg * r], 1), x.dtype)
                dh = dh_kept + wide(tf.matmul(other, u, transpose_b=True))
            else:
                dreset = wide(tf.matmul(tf.cast(dg, x.dtype), u_g, transpose_b=True))
                dr, other = s_grad(r, dreset * h), tf.cast(r * h, x.dtype)
                d_zr = tf.cast(tf.concat([dz, dr], 1), x.dtype)
                dh = dh_kept + dreset * r + wide(tf.matmul(d_zr, u_zr, transpose_b=True))
            if masks:
                dh = tf.where(seen, dh, dh_passed)
            return (dh,), (tf.cast(tf.concat([dz, dr, dg], 1), x.dtype), other)

        dh = wide(dh_last) if return_sequences else wide(dh_last) + wide(dy)
        sequences = (h_before, *((dy,) if return_sequences else ()), *masks,
                     *((items,) if again else kept))
        widths = 3 * units, (3 if reset_after else 1) * units
        (dh,), (d, other) = scan(
            step_backward, (dh,), sequences, widths, reverse=True, unroll=unroll
        )
        dx, dw, db = inputs_backward(d)
        if reset_after:
            du = weights_gradient(h_before, other)
        else:
            d_zr, dg = tf.split(d, (2 * units, units), 2)
            du = tf.concat([weights_gradient(h_before, d_zr), weights_gradient(other, dg)], 1)
        if b_h is not None:
            db = tf.stack([db, sum_rows(other)])
        return dx, dw, du, db, None if h0 is None else tf.cast(dh, h0.dtype), None, None

    return (y, last), backward


def _product(t, w, b):
    """t w + b"""
    z = tf.matmul(t, w)
    return z if b is None else tf.nn.bias_add(z, b)


@register
class GRU(CheckedRecurrent, keras.layers.GRU):
    """`keras.layers.GRU` on the op `gru`.

    Masks, initial states, `stateful`, `go_backwards`, `unroll`, `reset_after` and input dropout
    run through the op, and so inside `keras.layers.Bidirectional`. Keras's own arithmetic runs
    where the op has none: activations other than tanh, sigmoid, hard_sigmoid, relu and linear,
    recurrent dropout in training, input dropout with `implementation=1`, and
    `use_cudnn=True`. With `use_cudnn="auto"` the op runs on a GPU too, and XLA may compile it.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.use_cudnn is not True:
            self.supports_jit = True

    def inner_loop(self, sequences, initial_state, mask, training=False):
        check_arguments(self, sequences, initial_state, mask)
        settings = settings_of(self, training)
        if settings is None:
            # Keras's GRU tries cuDNN first, and fails on the list of masks of `implementation=1`.
            stock = keras.layers.GRU if self.use_cudnn is True else keras.layers.RNN
            return stock.inner_loop(self, sequences, initial_state, mask, training=training)
        cell = self.cell
        sequences = tf.cast(sequences, self.compute_dtype)
        y, h = gru(sequences, cell.kernel, cell.recurrent_kernel, cell.bias, *initial_state,
                   layer_mask(mask), input_dropout(self, sequences, training),
                   reset_after=cell.reset_after, **settings)
        return y, y, [h]
