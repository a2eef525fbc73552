"""NIC: an image is the first word that an LSTM reads; then it says the sentence."""

import keras
import tensorflow as tf

from app.description.vocabulary import PAD, UNKNOWN
from app.models.common import decay, scaled, start, weights as initial
from app.models.trunks import SMALL, check_weights, trunk_of
from custom_layers import (LSTM, Add, BatchNormalization, Concatenate, Conv2D, Dense, Dropout,
                           Embedding, Flatten, MaxPooling2D, ReLU, Reshape, SoftmaxCrossEntropy)
from custom_layers.registration import register

TRUNK_FILTERS, HIDDEN, SIDE = (32, 64, 128), 1024, 32
MOMENTUM = 0.9  # of the statistics: Keras's 0.99 lags behind in a training of few steps


def nic(image_shape, words, length, *, trunk=SMALL, weights=None, units=256, dropout=0.0,
        width=1.0, weight_decay=0.0, statistics=None):
    """The Neural Image Caption generator, as it is trained: (images, tokens before) -> logits.

        x_-1 = W_i CNN(image),  x_t = W_e S_t
        logits_(t+1) = W_d LSTM(x_t) + W_v x_-1,  t = 0 .. T-2

    S_0 is the start and `tokens` are S_0 .. S_(T-2); the logits (N, T-1, words) are those of
    S_1 .. S_(T-1). What the LSTM says of the image alone is dropped. `decoding.Decoder` runs the
    same layers a step at a time. Departs from the paper, whose trunk was trained before: here it is
    not, and learns from words alone. Batch normalisation after W_i, without which what all images
    share outweighs what tells one from another; and W_v, by which a word that a sentence has at any
    place says at once what is in the image.

    Args:
        words: how many there are in the vocabulary, the specials included.
        length: T, the tokens of the longest sentence with its start and end.
        trunk: "small", three convolutions for small images; the name of a network of
            `app.models`; or any model of images, such as a trained one that is
            `app.models.trunks.headless`.
        units: of the LSTM and of both embeddings, 512 in the paper.
        dropout: rate before the LSTM and before the logits.
        weights: of a trunk of `keras.applications`: "imagenet", or a file.
        width: the factor of the trunk's channels.
        statistics: (mean, std) of the training images, that the trunk normalises by. A trained
            trunk has its own.

    Source: Vinyals, Toshev, Bengio, Erhan, Show and Tell: A Neural Image Caption Generator,
    CVPR 2015, section 3.
    """
    images = keras.Input(image_shape, name="images")
    tokens = keras.Input((length - 1,), dtype="int32", name="tokens")
    settings = {"weight_decay": weight_decay, "statistics": statistics}
    if trunk == SMALL:
        check_weights(trunk, weights)
        trunk = small_trunk(image_shape, width=width, **settings)
    elif isinstance(trunk, str):
        trunk = trunk_of(trunk, image_shape, weights=weights, width=width, momentum=MOMENTUM,
                         **settings)
    seen = Flatten(name="image_flatten")(trunk(images))
    seen = Dense(units, use_bias=False, name="image_embedding",
                 **initial(weight_decay, "glorot_uniform"))(seen)
    seen = BatchNormalization(momentum=MOMENTUM, name="image_embedding_bn")(seen)
    said = Embedding(words, units, name="word_embedding")(tokens)
    seen = Reshape((1, units), name="image")(seen)
    likely = Dense(words, use_bias=False, name="image_logits")(seen)
    x = Concatenate(axis=1, name="image_then_words")([seen, said])
    x = Dropout(dropout, name="input_dropout")(x)
    x = LSTM(units, return_sequences=True, name="lstm")(x)
    x = keras.layers.Cropping1D((1, 0), name="after_the_image")(x)
    x = Dropout(dropout, name="dropout")(x)
    logits = Dense(words, kernel_regularizer=decay(weight_decay), name="word_logits")(x)
    logits = Add(name="logits")([logits, likely])
    return keras.Model([images, tokens], logits, name="nic")


def small_trunk(image_shape, *, width=1.0, weight_decay=0.0, statistics=None):
    """Three stages of two convolutions, batch normalisation and ReLU, and a pooling, for small
    images.

    The first convolution has the stride that makes 32 pixels of larger sides. The maps are not
    averaged: where a thing is, is half of what there is to say of it. They are deep enough to tell
    what it is at any place alike, before a dense layer tells the places apart.
    """
    stride = max(1, min(image_shape[:2]) // SIDE)
    layers = start(image_shape, statistics)
    for stage, filters in enumerate(TRUNK_FILTERS, 1):
        for i in (1, 2):
            first = stage == i == 1
            layers += _normalized(
                Conv2D(scaled(filters, width), 2 * stride + 1 if first else 3,
                       stride if first else 1, padding="same", use_bias=False,
                       name=f"conv{stage}_{i}", **initial(weight_decay)))
        layers.append(MaxPooling2D(2, name=f"pool{stage}"))
    layers.append(Flatten(name="flatten"))
    layers += _normalized(Dense(scaled(HIDDEN, width), use_bias=False, name="hidden",
                                **initial(weight_decay)))
    return keras.Sequential(layers, name="trunk")


def _normalized(layer):
    return [layer, BatchNormalization(momentum=MOMENTUM, name=f"{layer.name}_bn"),
            ReLU(name=f"{layer.name}_relu")]


def one_sentence(captions, drawn):
    """One of each image's own sentences, not those of padding, by `drawn` in [0, 1) (N,).

    Shapes: captions (N, K, T) -> (N, T)
    """
    filled = tf.reduce_sum(tf.cast(captions[..., 0] != PAD, tf.int32), 1)
    chosen = tf.cast(drawn * tf.cast(filled, tf.float32), tf.int32)
    return tf.gather(captions, chosen, batch_dims=1)


def teacher_forced(images, sentences):
    """((images, tokens before), tokens after): a batch to train on.

    Shapes: sentences (N, T) -> tokens before (N, T-1), after (N, T-1)
    """
    return (images, sentences[:, :-1]), sentences[:, 1:]


def masked_loss(label_smoothing=0.0):
    """Softmax and cross entropy of a word, the mean over all that are not padding."""
    return SoftmaxCrossEntropy(ignore_class=PAD, label_smoothing=label_smoothing)


@register
class TokenAccuracy(keras.metrics.Mean):
    """The share of tokens, padding left out, that are the likeliest word; the unknown is none."""

    def __init__(self, name="token_accuracy", dtype=None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        right, counts = _compare(y_true, y_pred)
        super().update_state(right, counts)


@register
class SentenceAccuracy(keras.metrics.Mean):
    """The share of sentences all of whose tokens are right, the end included.

    The tokens before each are the sentence's own. As long as all are right, these are what greedy
    decoding has said itself: a sentence counts if and only if greedy decoding says it, word by
    word.
    """

    def __init__(self, name="sentence_accuracy", dtype=None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        right, counts = _compare(y_true, y_pred)
        super().update_state(tf.reduce_all(right | ~counts, 1))


def _compare(y_true, y_pred):
    """(where the likeliest word is the target's, where the target is no padding), (N, T) each."""
    y_true = tf.cast(y_true, tf.int32)
    unknown = tf.range(y_pred.shape[-1]) == UNKNOWN
    known = tf.where(unknown, tf.cast(float("-inf"), y_pred.dtype), y_pred)
    return tf.argmax(known, -1, tf.int32) == y_true, y_true != PAD
