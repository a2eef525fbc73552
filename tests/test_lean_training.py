"""Training a lean view with `fit` and by hand: what it makes of the weights is what stock makes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from lean_cases import image, unit
from lean_twins import precision

from custom_layers.lean import lean

JIT = pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(20, 8, 8, 2))
LABELS = RNG.integers(0, 3, 20)


def identity(model):
    return model


def network(activation=None):
    x = image(2)
    y = unit(layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2")(x), 4)
    y = unit(layers.Add()([layers.MaxPooling2D()(y), layers.AveragePooling2D(2)(y)]), 4)
    y = layers.Dropout(0.3, seed=3)(layers.GlobalAveragePooling2D()(y))
    return keras.Model(x, layers.Dense(3, activation=activation)(y))


def sgd(**settings):
    return keras.optimizers.SGD(0.05, momentum=0.9, **settings)


def from_logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def trained(view_of, train, dtype="float64", make=network):
    """What `train(view, model)` returns as arrays by name, and the weights that it leaves."""
    with precision(dtype):
        keras.utils.set_random_seed(0)
        model = make()
        result = train(view_of(model), model)
    result = {path: np.asarray(r) for path, r in keras.tree.flatten_with_path(result)}
    return result, model.get_weights()


def assert_trains_as_stock(train, make=network):
    """`train(view, model)` of the view leaves the weights that it leaves of the model itself."""
    expected, weights = trained(identity, train, make=make)
    found, ours = trained(lean, train, make=make)
    assert found.keys() == expected.keys()
    for path, a in expected.items():
        np.testing.assert_allclose(found[path], a, 1e-9, 1e-11, err_msg=str(path))
    for a, b in zip(weights, ours, strict=True):
        np.testing.assert_allclose(b, a, 1e-9, 1e-11)
    return weights


def fit(compile_with=None, **settings):
    """`train` by compile and fit."""
    def train(view, model):
        with_defaults = {"optimizer": sgd(), "loss": from_logits(), "metrics": ["accuracy"],
                         "jit_compile": False, **(compile_with() if compile_with else {})}
        view.compile(**with_defaults)
        given = {"x": IMAGES, "y": LABELS, "batch_size": 4, "shuffle": False, **settings}
        return view.fit(**given, verbose=0).history

    return train


@pytest.mark.parametrize("compile_with", [
    {"jit_compile": False}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_five_steps_of_fit(compile_with):
    """Weights, batch statistics, losses and metrics."""
    before = trained(identity, lambda view, model: [])[1]
    after = assert_trains_as_stock(fit(lambda: compile_with))
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("settings", [
    {"sample_weight": np.linspace(0, 2, 20)},
    {"class_weight": {0: 0.5, 1: 1.0, 2: 4.0}},
    {"validation_split": 0.2},
    {"batch_size": 6, "epochs": 2},  # the last batch is smaller
    {"x": tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(5), "y": None,
     "batch_size": None},
], ids=["sample weights", "class weights", "validation", "uneven", "dataset"])
def test_what_fit_takes(settings):
    assert_trains_as_stock(fit(**settings))


@pytest.mark.parametrize("make", [
    lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=0.5),
    lambda: sgd(use_ema=True, ema_momentum=0.9),
    lambda: keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=8.0),
], ids=["accumulated", "decayed and clipped", "averaged", "scaled"])
def test_optimizers(make):
    assert_trains_as_stock(fit(lambda: {"optimizer": make()}))


def test_batch_by_batch():
    def train(view, model):
        view.compile(sgd(), from_logits(), metrics=["accuracy"])
        results = [view.train_on_batch(IMAGES[i:i + 5], LABELS[i:i + 5], class_weight={1: 2.0})
                   for i in (0, 5, 10)]
        return results + [view.test_on_batch(IMAGES, LABELS), view.predict_on_batch(IMAGES),
                          view.evaluate(IMAGES, LABELS, verbose=0),
                          view.predict(IMAGES, batch_size=8, verbose=0), view(IMAGES)]

    assert_trains_as_stock(train)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_loop_of_one_s_own(mode):
    """Two calls under one tape, and a batch of another size."""
    def train(view, model):
        optimizer, loss = sgd(), from_logits()

        def step(x, t):
            with tf.GradientTape() as tape:
                value = loss(t, view(x, training=True)) + loss(t, view(-x, training=True))
                value += tf.add_n(view.losses)
            gradients = tape.gradient(value, view.trainable_variables)
            optimizer.apply(gradients, view.trainable_variables)
            return value

        step = tf.function(step, reduce_retracing=True) if mode == "graph" else step
        return [step(tf.constant(IMAGES[i:j]), tf.constant(LABELS[i:j]))
                for i, j in ((0, 4), (4, 11), (11, 13))]

    assert_trains_as_stock(train)


@JIT
def test_saturated_probabilities(jit):
    """Keras's losses look for the logits behind a probability: of the probability nothing is left.

    Without them the loss of a logit of -700 is 16.1, and the gradient 0.
    """
    losses = {"softmax": "sparse_categorical_crossentropy", "sigmoid": "binary_crossentropy"}
    for activation, loss in losses.items():
        for last in (lambda y: layers.Dense(3, activation, kernel_initializer="ones")(y),
                     lambda y: layers.Activation(activation)(layers.Dense(3)(y))):
            def make():
                x = keras.Input((4,))
                return keras.Model(x, last(layers.Rescaling(200.0)(layers.Dense(4)(x))))

            targets = LABELS if activation == "softmax" else np.eye(3)[LABELS]
            assert_trains_as_stock(fit(
                lambda: {"loss": loss, "jit_compile": jit, "optimizer": keras.optimizers.SGD(1e-6)},
                x=IMAGES[:, 0, :2, :].reshape(20, 4), y=targets), make)


@pytest.mark.parametrize("loss", [
    {"a": from_logits(), "b": "mse"}, [from_logits(), "mse"]], ids=["by name", "in order"])
def test_several_outputs(loss):
    def make():
        x, z = image(2, name="x"), keras.Input((3,), name="z")
        y = layers.GlobalAveragePooling2D()(unit(unit(x, 3), 3))
        y = layers.BatchNormalization()(layers.Concatenate()([y, layers.Dense(3)(z)]))
        outputs = {"a": layers.Dense(3, name="a")(y), "b": layers.Dense(2, name="b")(y)}
        by_name = isinstance(loss, dict)
        return keras.Model({"x": x, "z": z}, outputs if by_name else list(outputs.values()))

    targets = {"a": LABELS, "b": IMAGES[:, 0, 0]}
    assert_trains_as_stock(fit(
        lambda: {"loss": loss, "metrics": None, "loss_weights": {"a": 1.0, "b": 0.3}
                 if isinstance(loss, dict) else [1.0, 0.3]},
        x={"x": IMAGES, "z": IMAGES[:, :3, 0, 0]},
        y=targets if isinstance(loss, dict) else list(targets.values())), make)


def test_an_output_without_a_loss():
    """Its weights have no gradient, so that the optimizer's decay leaves them as they are."""
    def make():
        x = image(2)
        y = layers.GlobalAveragePooling2D()(unit(x, 3))
        return keras.Model(x, [layers.Dense(3)(y), layers.Dense(2)(layers.ReLU()(y))])

    def train(view, model):
        optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(view(x, training=True)[0] ** 2)
            pairs = zip(tape.gradient(loss, view.trainable_variables), view.trainable_variables)
            optimizer.apply_gradients([(g, v) for g, v in pairs if g is not None])

        for _ in range(3):
            step(tf.constant(IMAGES))
        return []

    assert_trains_as_stock(train, make)


def test_layers_frozen_afterwards():
    """Batch normalisation that does not train normalises by its moving statistics."""
    def train(view, model):
        found = [fit()(view, model)]
        for layer in model.layers[:5]:
            layer.trainable = False
        found.append(fit()(view, model))
        for layer in model.layers[:3]:
            layer.trainable = True
        return [found, fit()(view, model), len(view.trainable_variables)]

    assert_trains_as_stock(train)


def test_weights_loaded_before_and_after(tmp_path):
    """There is one set of variables: what either is given or learns is the other's."""
    keras.utils.set_random_seed(1)
    other = network()
    other.save_weights(tmp_path / "pretrained.weights.h5")
    model, again = network(), network()
    model.load_weights(tmp_path / "pretrained.weights.h5")
    view, late = lean(model), lean(again)
    late.load_weights(tmp_path / "pretrained.weights.h5")
    expected = other(IMAGES)
    for v in (view, late, again):
        np.testing.assert_allclose(v(IMAGES), expected, rtol=1e-5, atol=1e-6)
    assert [id(v) for v in view.variables] == [id(v) for v in model.variables]
    fit()(view, model)
    assert np.any(model.get_weights()[0] != other.get_weights()[0])
    np.testing.assert_allclose(view(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-6)
    view.save_weights(tmp_path / "view.weights.h5")
    other.load_weights(tmp_path / "view.weights.h5")
    np.testing.assert_array_equal(other(IMAGES), model(IMAGES))


def test_the_view_of_a_compiled_model_is_compiled_as_it():
    def train(view, model):
        return view.fit(IMAGES, LABELS, batch_size=5, shuffle=False, verbose=0).history

    def make():
        model = network()
        model.compile(sgd(), from_logits(), metrics=["accuracy"], jit_compile=True)
        return model

    assert_trains_as_stock(train, make)
    with precision("float64"):
        assert lean(make()).jit_compile is True


def test_two_devices():
    """MirroredStrategy: each device normalises by its own half of the batch."""
    def run(view_of):
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"],  # a process's collectives are of one dtype: others' are float32
            cross_device_ops=tf.distribute.ReductionToOneDevice())
        with precision("float64"), strategy.scope():
            keras.utils.set_random_seed(0)
            model = network()
            view = view_of(model)
            history = fit()(view, model)
        return [*history.values(), *model.get_weights()]

    for a, b in zip(run(identity), run(lean), strict=True):
        np.testing.assert_allclose(b, a, 1e-9, 1e-11)


@JIT
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(policy, jit):
    """The optimizer scales the loss by itself, and the weights stay float32."""
    train = fit(lambda: {"jit_compile": jit})
    (stock, weights), (ours, lean_weights) = (
        trained(view_of, train, policy) for view_of in (identity, lean))
    assert ours.keys() == stock.keys()
    np.testing.assert_allclose(ours["loss", 0], stock["loss", 0], rtol=0.02)
    for a, b in zip(weights, lean_weights, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, atol=0.02 * max(1.0, np.abs(a).max()))
