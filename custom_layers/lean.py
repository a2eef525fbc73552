"""Lean training: any Keras model in half the memory, over the same variables.

    from custom_layers.lean import lean

    model.compile("adam", "sparse_categorical_crossentropy")
    lean(model).fit(images, labels)
    model.save("trained.keras")
"""

import math

import keras

from custom_layers.lean_graph import functional_of
from custom_layers.lean_program import Program
from custom_layers.lean_report import memory_report
from custom_layers.lean_storage import SAVES

__all__ = ["LeanModel", "lean", "memory_report"]


def lean(model, *, save="float32", budget=None, seed=None):
    """A trainable view of a model that keeps less for its backward pass.

    The view computes what the model computes, with the model's own variables, and its gradients
    are the model's. Of the forward pass it keeps what is dear to compute (the results of
    convolutions and products, batch statistics, who won in max pooling where that is worth the
    time of finding out, and wherever `budget` or `save` ask for memory); what is cheap
    (normalisation's affine map, activations, padding, concatenation, sums, dropout by its seed)
    it computes again when the backward pass asks for it. The model stays as it is, for saving
    and export.

    Args:
        model: a functional or Sequential Keras model, of stock layers, ours or both. What cannot
            be run leanly in it runs as stock; `view.plan.stock` lists it.
        save: how what is kept is stored: `"float32"`, as it is (the default: exact);
            `"bfloat16"`, in half the bytes, rounded; `"int8"`, in a quarter, rounded at random
            so that the error is zero on average.
        budget: the fraction of the bytes that stock Keras keeps that may be kept, in (0, 1]: dear
            results are computed again too, those of the least work a byte first, until what is
            kept fits. `None` (the default) computes no dear result again. `view.plan` says what
            it comes to.
        seed: an integer that makes the rounding of `"int8"` repeatable.

    Returns:
        A `LeanModel`. Compiled like the model where that is compiled, with the same optimizer.

    Raises:
        ValueError: for a model that is neither, is not built or has a training step of its own,
            an unknown `save`, and a `budget` outside (0, 1].
    """
    return LeanModel(model, save=save, budget=budget, seed=seed)


class LeanModel(keras.Model):
    """A trainable view of `model`; see `lean`.

    `fit`, `train_on_batch`, `evaluate`, `predict` and calls under a `GradientTape` work as those
    of the model. What is saved or exported is the model. `plan` is what is kept, by layer.
    """

    def __init__(self, model, *, save="float32", budget=None, seed=None):
        function = functional_of(model)
        if type(model).train_step is not keras.Model.train_step:
            raise ValueError(
                "`model` has a `train_step` of its own, which a view of it would not run. Write it "
                f"for the view, or call the view in a loop. Received: {type(model).__name__}")
        if save not in SAVES:
            names = ", ".join(map(repr, SAVES))
            raise ValueError(f"`save` must be one of {names}. Received: save={save!r}")
        number = isinstance(budget, (int, float)) and math.isfinite(budget)
        if budget is not None and not (number and 0 < budget <= 1):
            raise ValueError(
                "`budget` must be None or the fraction of stock's bytes that may be kept, between "
                f"0 and 1. Received: budget={budget!r}")
        if seed is not None and not (isinstance(seed, int) and seed >= 0):
            raise ValueError(f"`seed` must be None or an integer >= 0. Received: seed={seed!r}")
        super().__init__(name=f"lean_{model.name}", dtype=model.dtype_policy)
        self.model, self.save_as, self.budget = model, save, budget
        self.seed_generator = None if SAVES[save].exact else keras.random.SeedGenerator(seed)
        # As a functional model has them: inputs get their dtype, and its errors, one by one.
        self._convert_input_args, self._allow_non_tensor_positional_args = False, True
        self._function, self._programs = _Untracked(function), {}
        if hasattr(model, "output_names"):
            self.output_names = model.output_names
        self.built = True
        if model.compiled:
            super().compile(**_settings(model))

    def compile(self, *args, **kwargs):
        """As `keras.Model.compile`; the model is compiled alike, so that it is saved with it."""
        super().compile(*args, **kwargs)
        self.model.compile(**_settings(self))

    def call(self, inputs, training=None, mask=None):
        if any(m is not None for m in keras.tree.flatten(mask)):
            return self.model(inputs, training=training, mask=mask)
        tensors = self._function.it._standardize_inputs(inputs)
        return self._program(training)(tensors)

    @property
    def plan(self):
        """What is kept for the backward pass, by layer: a table when printed."""
        return self._program(True).plan

    def _program(self, training):
        """The program for how things stand: layers may have been frozen since the last call."""
        frozen = tuple(layer.trainable for layer in self.model._flatten_layers())
        key = training, frozen
        if key not in self._programs:
            self._programs[key] = Program(
                self.model, training, SAVES[self.save_as](), self.budget, self.seed_generator)
        return self._programs[key]

    def compute_output_spec(self, inputs, training=None, mask=None):
        return self._function.it.compute_output_spec(inputs)

    def compute_output_shape(self, input_shape):
        return self._function.it.compute_output_shape(input_shape)

    def _assert_input_compatibility(self, *args):
        return self._function.it._assert_input_compatibility(*args)

    @property
    def layers(self):
        return self.model.layers

    @property
    def input_shape(self):
        return self.model.input_shape

    @property
    def output_shape(self):
        return self.model.output_shape

    def summary(self, *args, **kwargs):
        return self.model.summary(*args, **kwargs)

    def save(self, *args, **kwargs):
        return self.model.save(*args, **kwargs)

    def save_weights(self, *args, **kwargs):
        return self.model.save_weights(*args, **kwargs)

    def load_weights(self, *args, **kwargs):
        return self.model.load_weights(*args, **kwargs)

    def export(self, *args, **kwargs):
        return self.model.export(*args, **kwargs)


def _settings(model):
    """What a model was compiled with, the optimizer itself, not its name."""
    return {**model._compile_config.config, "optimizer": model.optimizer}


class _Untracked:
    """Holds what Keras must not take for a layer of its own: it is the model's already."""

    def __init__(self, it):
        self.it = it
