"""Networks: exact sizes, gradients, limits; what a perceptron can and cannot learn."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_cases import ALL, SMALLEST, small

from app.errors import UsageError
from app.models import MODELS, build, served
from app.models.applications import APPLICATIONS
from app.models.arithmetic import rows, shapes_only
from app.models.perceptron import gate, xor
from app.results import trainable_parameters
from custom_layers import SoftmaxCrossEntropy

PARAMETERS = {
    "perceptron": 7_850, "mlp": 45_360, "simpleconvnet": 433_890, "lenet5-1998": 60_000,
    "lenet5": 61_706, "alexnet": 60_965_224, "alexnet-one-tower": 61_100_840,
    "zfnet": 62_357_608, "nin": 966_986, "vgg-a": 132_863_336, "vgg-b": 133_047_848,
    "vgg-c": 133_638_952, "vgg-d": 138_357_544, "vgg-e": 143_667_240, "googlenet": 6_998_552,
    "googlenet-auxiliary": 13_378_280, "resnet18": 11_689_512, "resnet34": 21_797_672,
    "resnet50": 25_557_032, "resnet101": 44_549_160, "resnet152": 60_192_808,
    "resnet20": 269_722, "resnet32": 464_154, "resnet44": 658_586, "resnet56": 853_018,
    "resnet110": 1_727_962,
    # Beyond the catalogue, by hand: kernels, a shift a channel, ten rows of 256.
    "airbench": 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256) + 2 * 64 + 4 * 256 + 2_560,
    # No biases, two values a channel for each normalisation.
    **{f"vgg-{letter}-bn": count for letter, count in {
        "a": 132_863_336 + 2_752, "b": 133_047_848 + 2_944, "c": 133_638_952 + 4_224,
        "d": 138_357_544 + 4_224, "e": 143_667_240 + 5_504}.items()},
}
BITS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")


def logits(outputs):
    return outputs[0] if isinstance(outputs, list) else outputs


def images(*shape):
    return np.random.default_rng(0).random(shape, "float32")


def of_keras(name):
    """Keras's own network of this name, with its own head."""
    function, *_ = APPLICATIONS[name.removeprefix("keras-")]
    with shapes_only():
        return getattr(keras.applications, function)(weights=None)


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("keras-")])
def test_networks_of_keras_have_its_parameters(name):
    """Up to its head: three dense layers of VGG's, a convolution before that of MobileNetV3."""
    network = MODELS[name]
    with shapes_only():
        model = network(network.image_shape, network.classes)
    trunk, head = [w.shape for w in model.trainable_weights[:-2]], model.trainable_weights[-2:]
    assert [w.name for w in head] == ["kernel", "bias"] and head[0].shape[1] == 1000
    assert trunk == [w.shape for w in of_keras(name).trainable_weights[:len(trunk)]]
    assert len(trunk) >= 26


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_exact(name):
    network = MODELS[name]
    with shapes_only():
        model = network(network.image_shape, network.classes)
    assert trainable_parameters(model) == PARAMETERS[name]


def test_every_network_has_its_count():
    by_hand = {"deepconvnet", "patternnet"}  # no published count
    assert set(PARAMETERS) | by_hand == {n for n in MODELS if not n.startswith("keras-")}


def test_lenet5_takes_28_and_32_pixels_alike():
    assert trainable_parameters(build("lenet5", (32, 32, 1), 10)) == PARAMETERS["lenet5"]
    assert trainable_parameters(build("lenet5", (8, 8, 1), 10)) == PARAMETERS["lenet5"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ALL)
def test_every_weight_gets_a_gradient(name, channels):
    """Without dropout, which leaves no unit of a narrow layer alive now and then."""
    drops = "dropout" in inspect.signature(MODELS[name].function).parameters
    model = small(name, channels, statistics=([0.5] * channels, [0.3] * channels),
                  **({"dropout": 0.0} if drops else {}))
    loss, labels = MODELS[name].loss(), np.arange(16) % 4
    with tf.GradientTape() as tape:
        outputs = model(images(16, *model.input_shape[1:]), training=True)
        value = tf.add_n([loss(labels, y) for y in keras.tree.flatten(outputs)])
    gradients = tape.gradient(value, model.trainable_weights)
    for weight, gradient in zip(model.trainable_weights, gradients):
        assert gradient is not None and np.isfinite(gradient).all(), weight.path
        assert np.abs(gradient).max() > 0, weight.path


@pytest.mark.parametrize("name", SMALLEST)
def test_too_small_images_are_an_error_with_the_arithmetic(name):
    least = SMALLEST[name]
    with shapes_only():
        assert logits(build(name, (least, least + 3, 1), 2).outputs).shape == (None, 2)
    with pytest.raises(UsageError) as error:
        build(name, (least + 3, least - 1, 1), 2)
    message = str(error.value)
    assert f"at least {least}x{least} pixels" in message
    assert f"Received: {least + 3}x{least - 1}" in message
    assert f"--image-size {least}" in message and "(" in message


def test_unknown_model_names_the_closest():
    with pytest.raises(UsageError, match="Unknown model 'lenet'. Did you mean 'lenet5'?"):
        build("lenet", (28, 28, 1), 10)


@pytest.mark.parametrize("name", ALL)
def test_the_normalisation_is_inside(name):
    """Images in [0, 1] go in; the network behind sees mean 0 and deviation 1."""
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    keras.utils.set_random_seed(0)
    inside = small(name, statistics=(mean, std))
    keras.utils.set_random_seed(0)
    plain = small(name)
    x = images(2, *plain.input_shape[1:])
    np.testing.assert_allclose(logits(inside(x)), logits(plain((x - mean) / std)), rtol=1e-3,
                               atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_of_weight_decay_is_lambda_w(name):
    model = small(name, weight_decay=0.02)
    with tf.GradientTape() as tape:
        penalty = tf.add_n(model.losses)
    gradients = tape.gradient(penalty, model.trainable_weights)
    decayed = 0
    for weight, gradient in zip(model.trainable_weights, gradients):
        if weight.name == "kernel":
            np.testing.assert_allclose(gradient, 0.02 * weight.numpy(), rtol=1e-5, atol=1e-9)
            decayed += 1
        else:
            assert gradient is None and weight.name in ("bias", "gamma", "beta")
    assert decayed == sum(weight.name == "kernel" for weight in model.trainable_weights) > 0
    assert not small(name).losses


def test_patternnet_branches_with_skip():
    chain = build("patternnet", (8, 8, 1), 3)
    branched = build("patternnet", (8, 8, 1), 3, skip=True)
    inputs = {layer.name: layer.input for layer in branched.layers}
    assert not isinstance(branched, keras.Sequential)
    assert len(inputs["add1"]) == len(inputs["add2"]) == 2
    assert trainable_parameters(branched) - trainable_parameters(chain) == (
        (1 * 16 + 16) + (16 * 32 + 32)
    )


def test_patternnet_is_as_deep_as_it_is_asked_to_be():
    model = build("patternnet", (16, 16, 1), 3, convolutions=2, stages=3, hidden=2, pool=False,
                  dropout=0.5)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer"] + 6 * ["Conv2D"] + ["Flatten"] + 2 * ["Dense", "Dropout"] + [
        "Dense"]


@pytest.mark.parametrize("name, values", [
    ("AND", [0, 0, 0, 1]), ("NAND", [1, 1, 1, 0]), ("OR", [0, 1, 1, 1]),
])
def test_gates(name, values):
    np.testing.assert_array_equal(gate(name)(BITS)[:, 0], values)


def test_xor_takes_two_layers():
    np.testing.assert_array_equal(xor()(BITS)[:, 0], [0, 1, 1, 0])


def test_unknown_gate():
    with pytest.raises(UsageError, match="Unknown gate 'XR'. Did you mean 'OR'"):
        gate("XR")


@pytest.mark.parametrize("hidden, right", [((), False), ((8,), True)])
def test_one_layer_cannot_learn_xor_and_two_can(hidden, right):
    model = build("mlp", (1, 2, 1), 2, hidden=hidden)
    optimizer, loss = keras.optimizers.Adam(0.05), SoftmaxCrossEntropy()
    labels = np.array([0, 1, 1, 0])

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            value = loss(labels, model(x))
        optimizer.apply_gradients(zip(tape.gradient(value, model.trainable_weights),
                                      model.trainable_weights))

    optimizer.build(model.trainable_weights)
    for _ in range(300):
        step(BITS.reshape(4, 1, 2, 1))
    predicted = np.argmax(model(BITS.reshape(4, 1, 2, 1)), axis=1)
    assert ((predicted == labels).mean() == 1) == right


# Arithmetic


def arithmetic(name, side=None):
    network = MODELS[name]
    with shapes_only():
        shape = (side, side, network.image_shape[2]) if side else network.image_shape
        return {row.layer: row for row in rows(build(name, shape, network.classes))}


def test_lenet5_1998_has_the_papers_connections():
    """Section II-B counts them layer by layer."""
    found = arithmetic("lenet5-1998")
    assert {name: row.connections for name, row in found.items() if row.connections} == {
        "C1": 122_304, "S2": 5_880, "C3": 151_600, "S4": 2_000, "C5": 48_120, "F6": 10_164,
        "distances": 840}
    assert sum(row.connections for row in found.values()) == 340_908


@pytest.mark.parametrize("name, products", [
    ("vgg-d", 15_470_264_320), ("resnet18", 1_814_073_344), ("resnet50", 3_857_973_248)])
def test_multiply_adds(name, products):
    """As published: VGG-16 15.5, ResNet-18 1.8, ResNet-50 3.8 billion (He et al., table 1)."""
    assert sum(row.multiply_adds for row in arithmetic(name).values()) == products


def test_receptive_fields():
    """VGG-16: 3 + 2 a convolution, doubled steps behind each pool; of LeNet-5 C5 sees all 32."""
    found = arithmetic("vgg-d")
    fields = [found[f"conv{stage}_1"].receptive_field for stage in range(1, 6)]
    assert fields == [3, 10, 24, 60, 132] and found["pool5"].receptive_field == 212
    assert found["fc6"].receptive_field is None
    assert arithmetic("lenet5-1998")["C5"].receptive_field == 32


def test_a_layer_that_lean_runs_as_stock_is_not_counted():
    layers = [keras.Input((8, 8, 3)), keras.layers.PReLU(name="stock"),
              keras.layers.Conv2D(4, 3, name="conv"), keras.layers.ReLU(name="relu")]
    found = {row.layer: row for row in rows(keras.Sequential(layers))}
    assert found["stock"].lean_bytes is None
    assert found["relu"].stock_bytes >= found["relu"].lean_bytes > 0


def test_shapes_alone_take_no_memory_and_leave_nothing_behind():
    with keras.StatelessScope():  # from now on there is a list of what waits
        keras.Variable(keras.initializers.Zeros(), shape=(1,))
    with shapes_only():
        model = build("vgg-e", (224, 224, 3), 1000)
    assert all(weight._value is None for weight in model.weights)
    with keras.StatelessScope():  # Keras allocates here what waits for it
        pass
    assert all(weight._value is None for weight in model.weights)


# Wrong settings


@pytest.mark.parametrize("name, settings, message", [
    ("resnet20", {"classes": 1}, "at least 2 classes. Received: 1"),
    ("resnet20", {"depth": 21}, "6 n \\+ 2, as in 20, 32, 44, 56, 110. Received: 21"),
    ("resnet50", {"depth": 51}, "one of 18, 34, 50, 101, 152. Received: 51"),
    ("nin", {"width": 0}, "`width`, the factor of all channels, must be above 0. Received: 0"),
    ("alexnet", {"towers": 3}, "`towers` must be 1 or 2. Received: towers=3"),
    ("lenet5", {"width": 2}, "'lenet5' has no setting 'width'. It has: filters, units, dropout"),
])
def test_settings_that_a_network_does_not_take(name, settings, message):
    settings = {"classes": 10, **settings}
    with pytest.raises(UsageError, match=message):
        build(name, (96, 96, 3), settings.pop("classes"), **settings)


# As published


def test_the_towers_of_alexnet_do_not_see_each_other():
    """Of the maps of conv2, the first half sees the first half of conv1's maps alone."""
    model = small("alexnet")
    conv2 = model.get_layer("conv2")
    maps = conv2.filters // 2
    x = tf.Variable(images(1, 5, 5, 2 * conv2.kernel.shape[2]))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(conv2(x)[..., :maps] ** 2)
    seen = tf.reduce_max(tf.abs(tape.gradient(y, x)), (0, 1, 2)).numpy() > 0
    half = len(seen) // 2
    assert seen[:half].all() and not seen[half:].any()


def test_the_shortcuts_of_cifar_s_resnets_are_padded_with_zeros():
    model = small("resnet20", wide=0, width=1.0)
    zeros = model.get_layer("conv3_1_zeros")
    inner = keras.Model(model.input, [zeros.output, model.get_layer("conv2_3_relu").output])
    shortcut, before = inner(images(2, *model.input_shape[1:]))
    np.testing.assert_array_equal(shortcut[..., 8:24], before[:, ::2, ::2])
    assert not np.any(shortcut[..., :8]) and not np.any(shortcut[..., 24:])


def test_only_the_logits_are_served():
    model = small("googlenet-auxiliary")
    x = images(2, *model.input_shape[1:])
    main = served(model)
    np.testing.assert_array_equal(main(x), model(x)[0])
    assert not any(layer.name.startswith("auxiliary") for layer in main.layers)
    plain = small("googlenet", wide=3)
    assert trainable_parameters(main) == trainable_parameters(plain)
    assert served(plain) is plain
