"""Greedy decoding and beam search beside teacher forcing and exhaustive search."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.description.decoding import Decoder, sentences
from app.description.nic import SentenceAccuracy, nic
from app.description.vocabulary import END, PAD, SPECIALS, START, UNKNOWN
from custom_layers import Flatten

WORDS, LENGTH = 6, 5


@pytest.fixture
def model():
    """A network whose weights are large, so that it has an opinion on every image."""
    pixels = keras.Sequential([keras.Input((4, 4, 1)), Flatten()])
    model = nic((4, 4, 1), WORDS, LENGTH, units=5, trunk=pixels)
    rng = np.random.default_rng(2)
    for weight in model.trainable_variables:
        # What the image adds to every word alike is small: else one word is said all the time.
        weight.assign(rng.normal(0, 0.1 if "image_logits" in weight.path else 1.5, weight.shape))
    return model


@pytest.fixture
def images():
    return np.random.default_rng(2).random((16, 4, 4, 1), np.float32)


def forced(model, images, said):
    """log probabilities (N, T-1, words) of the token that follows each of `said`'s beginnings.

    The unknown word has none: it is never said.
    """
    before = np.concatenate([np.full((len(said), 1), START), said[:, :-1]], 1)
    found = tf.nn.log_softmax(model([images, before])).numpy()
    found[..., UNKNOWN] = -np.inf
    return found


def score(model, images, said):
    """log p of sentences (N, T-1) by teacher forcing; -inf where words follow the end."""
    chosen = np.take_along_axis(forced(model, images, said), said[..., None], 2)[..., 0]
    ended = np.isin(said, (END, PAD))
    after = np.cumsum(ended, 1) - ended > 0
    total = np.where(after, 0, chosen).sum(1)
    return np.where((after & (said != PAD)).any(1), -np.inf, total)


def test_greedy_is_the_argmax_of_teacher_forcing_on_its_own_output(model, images):
    said, total = (t.numpy() for t in Decoder(model).greedy(images))
    likeliest = forced(model, images, said).argmax(-1)
    ended = np.isin(said, (END, PAD))
    after = np.cumsum(ended, 1) - ended > 0
    assert after.any() and not after.all(axis=1).any() and len(np.unique(said, axis=0)) > 2
    np.testing.assert_array_equal(said, np.where(after, PAD, likeliest))
    np.testing.assert_allclose(total, score(model, images, said), atol=1e-4)


def test_sentence_accuracy_is_how_often_greedy_says_exactly_that(model, images):
    said = Decoder(model).greedy(images)[0].numpy()
    ends = (said == END).any(1)
    said, images = said[ends], images[ends]
    assert len(said) > 3
    targets = said.copy()
    targets[::3] = [4, 5, END, PAD]
    metric = SentenceAccuracy()
    metric.update_state(targets, forced(model, images, targets))
    exact = (targets == said).all(1).mean()
    assert 0 < exact < 1
    assert float(metric.result()) == pytest.approx(exact)


@pytest.mark.parametrize("length_penalty", [0.0, 0.8])
def test_a_beam_of_one_is_greedy(model, images, length_penalty):
    decoder = Decoder(model)
    said, total = decoder.greedy(images)
    beams, totals = decoder.beam(images, 1, length_penalty)
    np.testing.assert_array_equal(beams[:, 0], said)
    np.testing.assert_allclose(totals[:, 0], total, atol=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 0.8])
def test_a_beam_wide_enough_is_exhaustive_search(model, images, length_penalty):
    every = np.array(list(itertools.product(range(WORDS), repeat=LENGTH - 1)))
    decoder, width = Decoder(model), WORDS ** (LENGTH - 2)
    said, totals = (t.numpy() for t in decoder.beam(images[:4], width, length_penalty))
    for image, row, total in zip(images, said, totals):
        scores = score(model, np.repeat(image[None], len(every), 0), every)
        length = (every != PAD).sum(1)
        best = np.argsort(-scores / np.maximum(length, 1)**length_penalty)[:10]
        np.testing.assert_array_equal(row[:10], every[best])
        np.testing.assert_allclose(total[:10], scores[best], atol=1e-4)


def test_a_narrow_beam_says_nothing_less_likely_than_greedy_and_never_twice(model, images):
    decoder = Decoder(model)
    said, totals = (t.numpy() for t in decoder.beam(images, 3))
    assert (totals[:, 0] >= decoder.greedy(images)[1].numpy() - 1e-5).all()
    assert (totals[:, 0] > decoder.greedy(images)[1].numpy() + 1e-3).any()
    assert (np.diff(totals, axis=1) <= 0).all()
    for image, beams, total in zip(images, said, totals):
        assert len(np.unique(beams, axis=0)) == 3
        np.testing.assert_allclose(
            total, score(model, np.repeat(image[None], 3, 0), beams), atol=1e-4)


def test_a_length_penalty_favours_longer_sentences(model, images):
    decoder = Decoder(model)
    short, long = ((decoder.beam(images, 8, alpha)[0].numpy()[:, 0] != PAD).sum()
                   for alpha in (0.0, 2.0))
    assert long > short


@pytest.mark.parametrize("jit", [False, True])
def test_graphs_for_any_number_of_images_give_the_same(model, images, jit):
    decoder = Decoder(model)
    spec = tf.TensorSpec((None, 4, 4, 1))
    for decode in (decoder.greedy, lambda x: decoder.beam(x, 3)):
        graph = tf.function(decode, input_signature=[spec], jit_compile=jit)
        for count in (5, 1):
            for a, b in zip(graph(images[:count]), decode(images[:count])):
                np.testing.assert_allclose(a, b, atol=1e-4)


def test_sentences_in_the_graph():
    words = (*SPECIALS, "a", "cat")
    ids = np.array([[[4, 3, 5, 2, 0], [2, 0, 0, 0, 0]]])
    graph = tf.function(lambda ids: sentences(ids, words))
    assert graph(ids).numpy().tolist() == [[b"a <unknown> cat", b""]]
