"""Adversarial training: two networks against each other, in one Keras model."""

import functools

import keras
import tensorflow as tf

from custom_layers import SigmoidCrossEntropy
from custom_layers.lean import lean
from custom_layers.registration import register

# What Radford et al. train with: momentum of 0.9 makes it swing.
OPTIMIZER = functools.partial(keras.optimizers.Adam, 2e-4, beta_1=0.5)


@register
class GAN(keras.Model):
    """A generator that learns to draw what a discriminator takes for real.

    With D the discriminator's logit, s the sigmoid and z noise, N(0, 1):

        discriminator:  -(1 - a) log s(D(x)) - a log(1 - s(D(x))) - log(1 - s(D(G(z))))
        generator:      -log s(D(G(z)))

    The generator's loss does not saturate; `a` smooths the real label alone. Both gradients are
    taken at one point and applied in one step of one optimiser, so that all that Keras does with
    an optimiser (averaged weights, rates by network, saving) works. The noise of a step is a
    function of the seed and the step's number: a training that is resumed draws what it would
    have drawn (under XLA TensorFlow draws otherwise than without, from the same seed). Called on
    noise, the model gives images. Compiled with an optimiser alone, such as `OPTIMIZER()`: the
    losses are the model's own.

    Args:
        generator: noise (N, Z) -> images.
        discriminator: images -> logits (N, 1).
        label_smoothing: `a`, in [0, 0.5).
        shift: the discriminator sees each image, real or drawn, moved by up to so many pixels: it
            learns less of a small data set by heart, and the generator draws nothing that is
            moved.
        seed: of the noise.

    Source: Goodfellow et al., Generative Adversarial Nets, NIPS 2014, section 3; one-sided
    smoothing: Salimans et al., Improved Techniques for Training GANs, NIPS 2016, section 3.4;
    moved images: Zhao et al., Differentiable Augmentation for Data-Efficient GAN Training, NeurIPS
    2020, section 3; the step for both at once: Nowozin, Cseke,
    Tomioka, f-GAN, NIPS 2016, section 3.2.
    """

    def __init__(self, generator, discriminator, *, label_smoothing=0.1, shift=0, seed=0,
                 **kwargs):
        super().__init__(**kwargs)
        if shift < 0 or shift != int(shift):
            raise ValueError(f"`shift` must be 0, 1, 2 ... pixels. Received: shift={shift}")
        if not 0 <= label_smoothing < 0.5:
            raise ValueError("`label_smoothing` must be in [0, 0.5). "
                             f"Received: label_smoothing={label_smoothing}")
        self.generator, self.discriminator = generator, discriminator
        self.draw, self.judge = generator.__call__, discriminator.__call__
        self.label_smoothing, self.shift, self.seed = label_smoothing, shift, seed
        self.cross_entropy = SigmoidCrossEntropy()
        self.measured = {name: keras.metrics.Mean(name) for name in (
            "loss", "generator_loss", "discriminator_loss", "real", "fake")}
        self.build(generator.input_shape)

    def build(self, input_shape):
        self.built = True  # both networks are

    def train_lean(self, **settings):
        """Trains both networks by `custom_layers.lean` from now on; what is saved is unchanged."""
        # Functions, not models: these would be the GAN's own layers, and be saved with it.
        self.draw, self.judge = (lean(network, **settings).__call__
                                 for network in (self.generator, self.discriminator))

    def call(self, noise, training=False):
        return self.generator(noise, training=training)

    def train_step(self, data):
        images = keras.utils.unpack_x_y_sample_weight(data)[0]
        step = self.optimizer.iterations
        noise = self.noise(tf.shape(images)[0], step)
        with tf.GradientTape(persistent=True) as tape:
            drawn = self.draw(noise, training=True)
            real = self.judge(self._shifted(images, step), training=True)
            fake = self.judge(self._shifted(drawn, step), training=True)
            losses = self.losses_of(real, fake)
            generator_loss, discriminator_loss = map(self.optimizer.scale_loss, losses)
        weights = (self.generator.trainable_variables, self.discriminator.trainable_variables)
        gradients = (tape.gradient(generator_loss, weights[0])
                     + tape.gradient(discriminator_loss, weights[1]))
        self.optimizer.apply(gradients, weights[0] + weights[1])
        return self._measure(losses, real, fake)

    def test_step(self, data):
        images = keras.utils.unpack_x_y_sample_weight(data)[0]
        real = self.discriminator(images, training=False)
        drawn = self.generator(self.noise(tf.shape(images)[0]), training=False)
        fake = self.discriminator(drawn, training=False)
        return self._measure(self.losses_of(real, fake), real, fake)

    def noise(self, count, step=-1):
        """The noise (count, Z) of a step; that of step -1 is the one to look at."""
        shape = tf.stack([count, self.generator.input_shape[-1]])
        seed = tf.stack([self.seed, tf.cast(step, tf.int32)])
        return tf.random.stateless_normal(shape, seed)

    def _shifted(self, images, step):
        """The images of a step, each moved by up to `shift` pixels; black comes in."""
        if not self.shift:
            return images
        most, (count, height, width, _) = self.shift, tf.unstack(tf.shape(images))
        padded = tf.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
        # Below -1, from where on noise takes its seeds.
        seed = tf.stack([self.seed, -2 - tf.cast(step, tf.int32)])
        y, x = tf.unstack(tf.random.stateless_uniform([2, count, 1], seed, 0, 2 * most + 1,
                                                      tf.int32))
        rows = tf.gather(padded, y + tf.range(height), axis=1, batch_dims=1)
        return tf.ensure_shape(tf.gather(rows, x + tf.range(width), axis=2, batch_dims=1),
                               images.shape)

    def losses_of(self, real, fake):
        """(the generator's, the discriminator's) loss at the logits of real and drawn images."""
        genuine = tf.fill(tf.shape(real), 1 - self.label_smoothing)
        return (self.cross_entropy(tf.ones_like(fake), fake),
                self.cross_entropy(genuine, real)
                + self.cross_entropy(tf.zeros_like(fake), fake))

    def _measure(self, losses, real, fake):
        values = {"loss": sum(losses), "generator_loss": losses[0],
                  "discriminator_loss": losses[1], "real": tf.sigmoid(real),
                  "fake": tf.sigmoid(fake)}
        for name, metric in self.measured.items():
            metric.update_state(values[name])
        return {name: metric.result() for name, metric in self.measured.items()}

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing,
                "shift": self.shift, "seed": self.seed,
                **{name: keras.saving.serialize_keras_object(getattr(self, name))
                   for name in ("generator", "discriminator")}}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        networks = {name: keras.saving.deserialize_keras_object(config[name], custom_objects)
                    for name in ("generator", "discriminator")}
        return cls(**{**config, **networks})
