"""How a network is compiled: its loss, optimiser, schedule; rates by layer; averaged weights."""

import keras

from app.errors import UsageError, unknown
from app.models import OUTPUT_WEIGHTS, find
from custom_layers import Rprop

OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "momentum": lambda rate, **more: keras.optimizers.SGD(rate, momentum=0.9, **more),
    "nesterov": lambda rate, **more: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True,
                                                          **more),
    "adagrad": keras.optimizers.Adagrad,
    "rmsprop": keras.optimizers.RMSprop,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "rprop": Rprop,
}
DECOUPLED = "adamw"  # the optimiser that shrinks weights itself, beside its step
NOT_DECAYED = ["bias", "gamma", "beta"]


def compile_model(model, *, network=None, optimizer="adam", learning_rate=1e-3,
                  label_smoothing=0.0, class_weights=None, ema=None, weight_decay=0.0,
                  head_learning_rate=None, head=()):
    """Compiles for classification: the network's loss on its logits, and accuracy.

    Of several outputs the first are the logits; the losses of the others weigh 0.3.

    Args:
        network: the name of the network, which decides its loss; None is softmax and cross entropy.
        learning_rate: a number or a Keras schedule.
        label_smoothing: of the targets, in [0, 1).
        class_weights: a factor a class in the loss; None: all are alike.
        ema: the factor of the moving average of the weights, in (0, 1), or None.
        weight_decay: the part of the kernels that "adamw" takes from them in each step, times the
            learning rate (Loshchilov, Hutter, ICLR 2019); of other optimisers a matter of the
            layers' regularizers.
        head_learning_rate: of the layers named in `head`.
    """
    if not 0 <= label_smoothing < 1:
        raise UsageError("--label-smoothing must be at least 0 and less than 1. "
                         f"Received: {label_smoothing:g}")
    loss = find(network or "lenet5").loss
    losses = [loss(label_smoothing=label_smoothing, class_weights=class_weights)
              for _ in model.outputs]
    accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
    several = len(losses) > 1
    model.compile(
        optimizer_of(optimizer, learning_rate, ema, weight_decay, head_learning_rate, head),
        loss=losses if several else losses[0],
        loss_weights=list(OUTPUT_WEIGHTS) if several else None,
        metrics=[[accuracy], [], []] if several else [accuracy],
    )
    return model


def optimizer_of(optimizer, learning_rate, ema=None, weight_decay=0.0, head_learning_rate=None,
                 head=()):
    """An optimiser by its name; arguments as those of `compile_model`."""
    name, rate, head_rate = optimizer, learning_rate, head_learning_rate
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, list(OPTIMIZERS))
    if name == "rprop" and callable(rate):
        raise UsageError("Rprop's steps set themselves: --optimizer rprop takes no --schedule and "
                         "no --warmup.")
    if ema is not None and not 0 < ema < 1:
        raise UsageError(f"--ema must lie between 0 and 1, both excluded. Received: {ema:g}")
    settings = {"use_ema": True, "ema_momentum": ema} if ema else {}
    if name == DECOUPLED:
        settings["weight_decay"] = weight_decay

    def made(rate):
        optimizer = OPTIMIZERS[name](rate, **settings)
        if name == DECOUPLED:
            optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
        return optimizer

    if head_rate is None:
        return made(rate)
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(
        made(rate), {f"(.*/)?({'|'.join(head)})/.*": made(head_rate)}))


def current_rate(optimizer):
    """The learning rate of an optimiser; of several that of the trunk's."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of mixed_float16
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        optimizer = optimizer.optimizers[-1]
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


class Averaged(keras.callbacks.SwapEMAWeights):
    """Validates and keeps the moving average of the weights; training goes on from the last ones.

    A state is kept while the two are exchanged, so a resumed training exchanges them first.
    """

    def __init__(self, resumed):
        super().__init__(swap_on_epoch=True)
        self._ema_weights_in_model = resumed

    def _finalize_ema_values(self):
        """Keras would give the last weights up here, from which more epochs would go on."""
