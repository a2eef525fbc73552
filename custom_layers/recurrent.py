"""What LSTM and GRU share: the loop over time, the inputs' product, outputs under a mask."""

import keras
import tensorflow as tf

from custom_layers.checks import check_mask
from custom_layers.tracing import compiled_by_xla, sum_rows


# By name: the function, and its backward from the output y, so that its input is not kept.
ACTIVATIONS = {
    "linear": (tf.identity, lambda y, dy: dy),
    "tanh": (tf.tanh, lambda y, dy: tf.raw_ops.TanhGrad(y=y, dy=dy)),
    "sigmoid": (tf.sigmoid, lambda y, dy: tf.raw_ops.SigmoidGrad(y=y, dy=dy)),
    "relu": (tf.nn.relu, lambda y, dy: tf.raw_ops.ReluGrad(gradients=dy, features=y)),
    "hard_sigmoid": (
        lambda x: tf.nn.relu6(x + 3) / 6,
        lambda y, dy: tf.where((y > 0) & (y < 1), dy / 6, tf.zeros_like(dy)),
    ),
}
_NAMES = {getattr(keras.activations, name): name for name in ACTIVATIONS}


def settings_of(layer, training):
    """The settings of an op that a Keras LSTM or GRU holds, or None where none has a backward.

    Without are: other activations than those above, dropout of the states, a dropout mask of
    its own for each gate (Keras's `implementation=1`), and an explicit wish for cuDNN.
    """
    names = [_NAMES.get(f) for f in (layer.activation, layer.recurrent_activation)]
    by_gate = training and layer.dropout and layer.cell.implementation == 1
    recurrent = training and layer.recurrent_dropout
    if None in names or by_gate or recurrent or layer.use_cudnn is True:
        return None
    return dict(
        activation=names[0],
        recurrent_activation=names[1],
        return_sequences=layer.return_sequences,
        go_backwards=layer.go_backwards,
        zero_output_for_mask=layer.zero_output_for_mask,
        unroll=layer.unroll,
    )


def input_dropout(layer, sequences, training):
    """The mask (N, D) that Keras draws for all steps of a call, or None."""
    if not training or not 0 < layer.dropout < 1:
        return None
    return layer.cell.get_dropout_mask(sequences[:, 0, :])


def check_shapes(op, gates, x, w, u, bias, bias_shape, states, mask):
    """Refuses shapes that do not belong together, before any kernel runs."""
    if x.shape.rank != 3 or x.shape[1] == 0 or not x.dtype.is_floating:
        raise ValueError(
            f"`{op}` takes float sequences of shape (batch, steps, features), one step or more. "
            f"Received: x.shape={x.shape}, x.dtype={x.dtype.name}"
        )
    batch, steps, features = x.shape
    units = u.shape[0]
    for name, meaning, tensor, shape in (
        ("u", f"(units, {gates} * units)", u, (units, gates * units)),
        ("w", f"(features, {gates} * units)", w, (features, gates * units)),
        ("b", "of the gates", bias, bias_shape),
        *(("state", "(batch, units)", state, (batch, units)) for state in states),
        ("mask", "(batch, steps)", mask, (batch, steps)),
    ):
        if tensor is not None and not tensor.shape.is_compatible_with(shape):
            raise ValueError(
                f"`{op}` takes a `{name}` of shape {meaning} = {shape}. "
                f"Received: {name}.shape={tensor.shape}"
            )


def check_arguments(layer, sequences, initial_state, mask):
    """Refuses initial states and a mask that do not belong to the sequences of a call."""
    layer.check_states([s.shape for s in initial_state], sequences.shape)
    for m in () if mask is None else tf.nest.flatten(mask):
        shape = tuple(sequences.shape[:2])
        check_mask(layer, m, (*shape, 1) if m.shape.rank == 3 else shape)


def layer_mask(mask):
    """The mask (N, T) of a call, for which Keras also takes (N, T, 1) and a list of one."""
    mask = next(iter(tf.nest.flatten(mask)), None)
    return mask[..., 0] if mask is not None and mask.shape.rank == 3 else mask


def computes_again(dtype):
    """Whether the backward computes the gates again, from x and h, instead of keeping them.

    Under XLA that is no slower; in half precision a kept gate near 1 would have lost the digits of
    1 - gate.
    """
    return compiled_by_xla() or dtype.size == 2


def time_major(t, go_backwards=False):
    """(N, T, ...) -> (T, N, ...), the last step first with `go_backwards`."""
    t = tf.transpose(t, (1, 0, *range(2, t.shape.rank)))
    return tf.reverse(t, [0]) if go_backwards else t


def batch_major(t, go_backwards=False):
    """The adjoint (and inverse) of `time_major`."""
    return tf.transpose(tf.reverse(t, [0]) if go_backwards else t, (1, 0, 2))


def sequence_mask(mask, go_backwards):
    """A mask (N, T) of any dtype as truth values (T, N, 1), in the order the steps are read."""
    return time_major(tf.cast(mask, tf.bool)[..., None], go_backwards)


def wide(t):
    """`t` in the dtype to calculate in: half precision in float32."""
    return tf.cast(t, tf.float32) if t.dtype.size == 2 else t


def scan(step, state, sequences, widths, *, reverse=False, unroll=False):
    """Runs `step(state, *items) -> (state, outputs)` along the first axis of `sequences`.

    Returns the last state and the outputs of all steps, each stacked at its items' places. With
    `reverse` the last items come first. Each output is a matrix (N, width), of one of `widths`, in
    the first sequence's dtype.
    """
    if unroll or tf.executing_eagerly():
        items, outputs = list(zip(*map(tf.unstack, sequences))), []
        for values in reversed(items) if reverse else items:
            state, new = step(state, *values)
            outputs.append(new)
        outputs = zip(*(reversed(outputs) if reverse else outputs))
        return state, [tf.stack(values) for values in outputs]

    first = sequences[0]
    steps = first.shape[0] or tf.shape(first)[0]
    shapes = [(state[0].shape[0], width) for width in widths]
    arrays = [tf.TensorArray(first.dtype, steps, element_shape=shape) for shape in shapes]

    def body(i, state, arrays):
        place = steps - 1 - i if reverse else i
        new, outputs = step(state, *(s[place] for s in sequences))
        for after, before in zip(new, state):
            after.set_shape(before.shape)
        return i + 1, new, [a.write(place, value) for a, value in zip(arrays, outputs)]

    _, state, arrays = tf.while_loop(
        lambda i, *_: i < steps, body, (0, tuple(state), arrays),
        maximum_iterations=steps, parallel_iterations=32,
    )
    # A graph copies only those that something reads. Lists, which need no copy, cannot go into
    # the gradient's function where that is compiled or saved apart.
    return state, [a.stack() for a in arrays]


def inputs_of(x, w, b, factor, go_backwards):
    """The steps of x, and what x, w and b get back from the gates that they add to.

    Forward:   item[t,n,:] = x[n,t,:] * factor[n,:], t counted from the end with go_backwards;
               each step adds item w + b to its gates
    Backward:  dx[n,t,:] = (dz[t,n,:] wt) * factor[n,:],  dw = sum of itemt dz,  db = sum of dz,
               both over n and t
    Shapes:    x (N, T, D), w (D, G), b (G,) or None, factor (N, D) or None, dz (T, N, G)
               -> items (T, N, D)
    """
    items = time_major(x, go_backwards)
    if factor is not None:
        items = items * factor

    def backward(dz):
        rows = tf.reshape(dz, (-1, w.shape[1]))
        dx = tf.reshape(tf.matmul(rows, w, transpose_b=True), tf.shape(items))
        if factor is not None:
            dx = dx * factor
        db = None if b is None else sum_rows(dz)
        return batch_major(dx, go_backwards), weights_gradient(items, dz), db

    return items, backward


def outputs_of(states, last, mask, return_sequences, zero_output_for_mask):
    """The states of all steps, or the last, as the layer returns them.

    Forward:   y[n,t,:] = states[t,n,:] where `seen`, else 0;  seen is True from the first step
               that the mask lets through on, or with zero_output_for_mask where the mask is True
    Backward:  dstates = dy where seen, else 0: those of all steps, or of the last
    Shapes:    states (T, N, U), last (N, U), mask (T, N, 1) or None
               -> y (N, T, U), or (N, U) of the last step
    """
    seen = mask
    if mask is not None and not zero_output_for_mask:
        seen = tf.cumsum(tf.cast(mask, tf.int32), 0) > 0

    def shown(t):
        return t if seen is None else tf.where(seen, t, tf.zeros((), t.dtype))

    if return_sequences:
        return batch_major(shown(states)), lambda dy: shown(time_major(dy))
    seen = None if seen is None else seen[-1]
    return shown(last), shown


def before(first, states):
    """The state that each step starts from: `first`, then all of `states` but the last."""
    return tf.concat([first[None], states[:-1]], 0)


def weights_gradient(rows, dz):
    """The sum over steps and batch of rowst dz: (T, N, A), (T, N, B) -> (A, B)."""
    rows = tf.reshape(rows, (-1, rows.shape[-1]))
    return tf.matmul(rows, tf.reshape(dz, (-1, dz.shape[-1])), transpose_a=True)
