"""Generation: images like those of a data set, drawn from noise."""

import keras
import numpy as np
import tensorflow as tf

from app import data as data_sets
from app.compiling import optimizer_of
from app.errors import UsageError
from app.generation import scoring
from app.generation.dcgan import discriminator, generator
from app.generation.fid import Batched, Observer
from app.generation.gan import GAN
from app.pictures.grids import slerp, tiled
from app.models import Network
from app.tasks.task import Task

NOISE = 100  # numbers that an image is drawn from
JUDGED = 2000  # images by which a generator is judged
DRAWN, SAMPLES = 64, 8  # images in a report's grid; of the check of an export
ROWS, STEPS = 4, 16  # ways from one noise to another in a report; images on each
BETA = 0.5  # of Adam's first moment: 0.9 makes adversarial training swing


def dcgan(image_shape, classes, *, noise=NOISE, width=1.0, shift=0, weight_decay=0.0,
          statistics=None):
    """DCGAN: transposed convolutions draw, convolutions judge, against each other.

    See `app.generation.dcgan` and `app.generation.gan.GAN`. Images are brought to [-1, 1] in place
    of being normalised, and weights do not decay.
    """
    if isinstance(statistics, str):
        raise UsageError("--whiten is not for --task generate, whose images are brought to "
                         f"[-1, 1]. Received: {statistics}")
    return GAN(generator(image_shape, noise=noise, width=width),
               discriminator(image_shape, width=width), shift=shift, name="dcgan")


class Generation(Task):
    """Images from noise: the networks are trained against each other."""

    name, trained_whole = "generate", False
    data_sets = data_sets.DATA_SETS
    networks = {"dcgan": Network(dcgan, {"width": 0.5, "shift": 2}, (16, 16, 1))}

    def load(self, source, **settings):
        if settings.get("image_size") is None and source == "digits":
            settings["image_size"] = 16  # of 8x8 there is nothing to be halved
        return data_sets.load(source=source, **settings)

    def compile(self, network, model, *, optimizer, learning_rate, label_smoothing=0.0, ema=None,
                weight_decay=0.0, head_learning_rate=None, head=()):
        made = optimizer_of(optimizer, learning_rate, ema, weight_decay)
        if hasattr(made, "beta_1"):
            made.beta_1 = BETA
        network.label_smoothing = label_smoothing or network.label_smoothing
        network.compile(made)
        return network

    def lean(self, network, *, save="float32", **settings):
        if save == "int8":  # whose random rounding no state of the GAN would bring back
            raise UsageError("A generator is trained with --lean float32 or bfloat16, so that a "
                             "training that is resumed repeats. Received: --lean int8")
        network.train_lean(save=save, **settings)
        return network

    def examples(self, network, model):
        return lambda images, labels: images

    def callbacks(self, network, model, train, validation):
        return [] if validation is None else [Distance(network.generator, train, validation)]

    def loaded(self, network):
        return network.generator

    def parts(self, network):
        return [network.generator, network.discriminator]

    def head(self, network):
        raise UsageError("A generator cannot start from another: no layer of it depends on the "
                         "classes. Received: --from, with --task generate")

    def image_shape(self, network):
        return network.outputs[0].shape[1:]

    def evaluate(self, network, split, data):
        return scoring.score(draw(network, JUDGED), data.train, data.validation, split,
                             data.class_names)

    def signatures(self, network, data):
        """Images of noise, and of numbers, each of which is the seed of a noise."""
        size = network.input_shape[-1]

        @tf.function(input_signature=[tf.TensorSpec((None, size), tf.float32, name="noise")])
        def of_noise(noise):
            return {"images": network(noise, training=False)}

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.int32, name="seed")])
        def of_seed(seed):
            noise = tf.map_fn(
                lambda one: tf.random.stateless_normal([size], tf.stack([one, 0])), seed,
                fn_output_signature=tf.TensorSpec((size,), tf.float32))
            return of_noise(noise)

        return {"serving_default": of_noise, "seeds": of_seed}

    def samples(self, data, count):
        noise = np.random.default_rng(0).normal(size=(SAMPLES, NOISE)).astype(np.float32)
        return {"serving_default": {"noise": noise},
                "seeds": {"seed": np.arange(SAMPLES, dtype=np.int32)}}

    def takes(self, data):
        return {"serving_default": f"noise: float32, normal, ('batch', {NOISE})",
                "seeds": "seed: int32, one for each image, ('batch',)"}

    def returns(self, data):
        return {"images": f"float32 in [0, 1], {('batch', *data.image_shape)}"}

    def pictures(self, network, evaluation, split, data):
        first, last = normal(ROWS, 1), normal(ROWS, 2)
        way = slerp(first, last, STEPS)
        between = Batched(network)(way.reshape(-1, NOISE))
        return [("Drawn images", "From noise that was fixed before training.",
                 [(shown(draw(network, DRAWN)), "drawn")]),
                ("Real images", "Of the test part.", [(tiled(split.images[:DRAWN], 16), "real")]),
                ("From one to another", "What is drawn on the way from one noise to another: no "
                 "jumps, if the network has learned more than its training images.",
                 [(shown(between, STEPS), "interpolated")])]


def normal(count, seed=0):
    """Noises (count, NOISE)."""
    return np.random.default_rng(seed).normal(size=(count, NOISE)).astype(np.float32)


def draw(network, count):
    """`count` images of the noise that is looked at, always the same."""
    return Batched(network)(normal(count))


def shown(images, columns=16):
    """Images in [0, 1] in a grid, as a picture uint8 (H, W, C)."""
    return tiled(np.rint(255 * images).astype(np.uint8), columns)


class Distance(keras.callbacks.Callback):
    """The Fréchet distance to the validation part after each epoch.

    It is that of many images: of few it would choose an epoch by their luck.
    """

    def __init__(self, generator, train, validation):
        super().__init__()
        self.generator = Batched(generator)
        self.observer = Observer(scoring.classifier(train), scoring.scaled(validation.images))

    def on_epoch_end(self, epoch, logs=None):
        found = self.observer.quality(self.generator(normal(JUDGED)))
        logs["val_fid"], logs["val_confidence"] = found.fid, found.confidence


TASK = Generation()
