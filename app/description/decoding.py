"""From an image to a sentence: greedy decoding and beam search, in the graph."""

import keras
import tensorflow as tf

from app.description.vocabulary import END, PAD, SPECIALS, START, UNKNOWN
from custom_layers.lstm import lstm
from custom_layers.windows import dimensions


class Decoder:
    """Runs a trained `nic` a step at a time, its LSTM's state carried.

    At most T-1 steps are taken, fewer where all sentences have ended, in one loop of fixed shapes
    that XLA can compile. After its end (or padding, which no training sentence teaches) a sentence
    goes on with padding, at no cost in probability. That a word is unknown is never said.

    Args:
        model: what `nic` made.
    """

    def __init__(self, model):
        images, tokens = model.inputs
        self.steps = tokens.shape[1]
        self._see = keras.Model(images, model.get_layer("image").output)
        self._embed, self._logits, self._likely = map(
            model.get_layer, ("word_embedding", "word_logits", "image_logits"))
        cell = model.get_layer("lstm").cell
        self._weights = cell.kernel, cell.recurrent_kernel, cell.bias
        self.words = self._logits.units

    def greedy(self, images):
        """The likeliest word at every step.

        Shapes: images (N, H, W, C) -> token ids (N, T-1) int32, the start left out, padding after
        the end; log probability (N,) in nats
        """
        images = tf.convert_to_tensor(images)
        count = dimensions(images)[0]

        def step(i, said, total, token, state):
            scores, state = self._step(token, state)
            token = tf.argmax(scores, -1, tf.int32)
            said = tf.where(tf.range(self.steps) == i, token[:, None], said)
            return i + 1, said, total + tf.reduce_max(scores, -1), token, state

        said = tf.zeros([count, self.steps], tf.int32)
        start = (said, tf.zeros([count]), tf.fill([count], START), self._first(images))
        return self._loop(step, start)[:2]

    def beam(self, images, width=3, length_penalty=0.0):
        """The `width` likeliest beginnings are kept at every step; the best sentences first.

        Sentences that reach no end in T-1 steps stay as they are. With `length_penalty` alpha they
        are ordered at the end by log p / length^alpha, the length with its end.

        Shapes: images (N, H, W, C) -> token ids (N, width, T-1) int32, log probability (N, width)
        Source: Sutskever, Vinyals, Le, Sequence to Sequence Learning, NIPS 2014, section 3.2; the
        penalty: Wu et al., Google's Neural Machine Translation System, 2016, section 7, without
        its constant.
        """
        images = tf.convert_to_tensor(images)
        count = dimensions(images)[0]

        def step(i, said, total, token, state):
            scores, state = self._step(tf.reshape(token, [-1]), state)
            scores = total[..., None] + tf.reshape(scores, (count, width, self.words))
            total, best = tf.math.top_k(tf.reshape(scores, (count, -1)), width)
            parent, token = best // self.words, best % self.words
            rows = tf.reshape(parent + tf.range(count)[:, None] * width, [-1])
            said = tf.where(tf.range(self.steps) == i, token[..., None],
                            tf.gather(said, parent, batch_dims=1))
            return i + 1, said, total, token, tuple(tf.gather(t, rows) for t in state)

        said = tf.zeros([count, width, self.steps], tf.int32)
        # One beginning alone at first: equal ones would fill the beam with copies.
        total = tf.tile(tf.constant([[0.0] + [float("-inf")] * (width - 1)]), [count, 1])
        state = tuple(tf.repeat(t, width, 0) for t in self._first(images))
        said, total, *_ = self._loop(step, (said, total, tf.fill([count, width], START), state))
        length = tf.maximum(tf.reduce_sum(tf.cast(said != PAD, tf.float32), 2), 1)
        order = tf.argsort(total / length**length_penalty, direction="DESCENDING", stable=True)
        return tf.gather(said, order, batch_dims=1), tf.gather(total, order, batch_dims=1)

    def _loop(self, step, start):
        """`step` of (i, said, total, token, state) until all have ended, or T-1 times."""
        def goes_on(i, said, total, token, state):
            return (i < self.steps) & ~tf.reduce_all(_ended(token))

        return tf.while_loop(goes_on, step, (0, *start))[1:]

    def _first(self, images):
        """The state after the image: (h, c) and what the image adds to each word's logits."""
        seen = self._see(images, training=False)
        return *self._read(seen), self._likely(seen)[:, 0]

    def _read(self, x, h=None, c=None):
        """The state after one more step x (N, 1, units)."""
        weights = (tf.cast(w, x.dtype) for w in self._weights)
        _, h, c = lstm(x, *weights, h, c, return_sequences=False, unroll=True)
        return h, c

    def _step(self, token, state):
        """(log probabilities (N, words) of the next token, the state) after `token` (N,)."""
        *state, likely = state
        h, c = self._read(self._embed(token[:, None]), *state)
        scores = tf.nn.log_softmax(tf.cast(self._logits(h) + likely, tf.float32))
        words = tf.range(self.words)
        scores = tf.where(words == UNKNOWN, float("-inf"), scores)
        padding = tf.where(words == PAD, 0.0, float("-inf"))
        return tf.where(_ended(token)[:, None], padding, scores), (h, c, likely)


def _ended(token):
    return (token == END) | (token == PAD)


def sentences(ids, words):
    """Token ids (..., T) as sentences, tf.string (...), in the graph.

    words: the vocabulary, a sequence of str.
    """
    shown = tf.constant(["" if w in SPECIALS[:3] else w for w in words])
    text = tf.strings.reduce_join(tf.gather(shown, ids), -1, separator=" ")
    return tf.strings.strip(tf.strings.regex_replace(text, " +", " "))
