"""Weight decay, with the factor 1/2 that makes its gradient lambda W."""

import keras
import tensorflow as tf

from custom_layers.gradient import differentiable
from custom_layers.registration import register


@differentiable
def weight_decay(w, *, decay):
    """Half the sum of squares of the weights, times `decay` (lambda).

    Forward:   L = 1/2 lambda sum W^2, half precision summed in float32
    Backward:  dW = dL * lambda W
    Shapes:    w (...) -> L ()
    """
    wide = tf.cast(w, tf.float32) if w.dtype in (tf.float16, tf.bfloat16) else w
    loss = tf.cast(decay * tf.nn.l2_loss(wide), w.dtype)
    return loss, lambda dloss: dloss * decay * w


@register
class WeightDecay(keras.regularizers.Regularizer):
    """Weight decay: adds 1/2 lambda W^2 to the loss, lambda W to the gradient.

    `WeightDecay(decay)` is `keras.regularizers.L2(decay / 2)`: Keras's has no 1/2.

    Args:
        decay: lambda, at least 0.
    """

    def __init__(self, decay=1e-4):
        if not 0 <= decay < float("inf"):
            raise ValueError(f"`decay` must be a number >= 0. Received: decay={decay}")
        self.decay = float(decay)

    def __call__(self, x):
        return weight_decay(x, decay=self.decay)

    def get_config(self):
        return {"decay": self.decay}
