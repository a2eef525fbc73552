"""NIC as it is trained: shapes, gradients, what counts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.description.decoding import Decoder
from app.description.nic import (SentenceAccuracy, TokenAccuracy, masked_loss, nic, one_sentence,
                                 teacher_forced)
from app.description.vocabulary import SPECIALS, encode
from app.models import build
from app.models.trunks import headless

WORDS, LENGTH = 7, 5


def network(**settings):
    return nic((8, 8, 1), WORDS, LENGTH, **{"units": 6, "width": 0.125, **settings})


def batch(count=3):
    rng = np.random.default_rng(0)
    return (rng.random((count, 8, 8, 1), np.float32),
            rng.integers(1, WORDS, (count, LENGTH - 1), np.int32))


def test_logits_follow_the_image_and_the_tokens_before_only():
    model, (images, tokens) = network(), batch()
    logits = model([images, tokens]).numpy()
    assert logits.shape == (3, LENGTH - 1, WORDS)
    later, other = tokens.copy(), images.copy()
    later[:, 2] = tokens[:, 2] % (WORDS - 1) + 1
    other[0] = 1 - images[0]
    moved = model([images, later]).numpy()
    np.testing.assert_array_equal(moved[:, :2], logits[:, :2])
    assert (np.abs(moved[:, 2:] - logits[:, 2:]).max(2) > 1e-6).all()
    moved = model([other, tokens]).numpy()
    np.testing.assert_array_equal(moved[1:], logits[1:])
    assert (np.abs(moved[0] - logits[0]).max(1) > 1e-6).all()


def test_the_image_is_the_first_word_that_keras_lstm_reads():
    model, (images, tokens) = network(), batch()
    seen = keras.Model(model.inputs[0], model.get_layer("image").output)(images)
    x = tf.concat([seen, model.get_layer("word_embedding")(tokens)], 1)
    stock = keras.layers.LSTM(6, return_sequences=True)
    stock.build(x.shape)
    stock.set_weights(model.get_layer("lstm").get_weights())
    logits = model.get_layer("word_logits")(stock(x))[:, 1:] + model.get_layer("image_logits")(seen)
    np.testing.assert_allclose(logits, model([images, tokens]), atol=1e-4)


@pytest.mark.parametrize("trunk", ["small", "lenet5", "resnet20"])
def test_every_weight_gets_a_gradient(trunk):
    model, (images, tokens) = network(trunk=trunk, statistics=([0.5], [0.2])), batch()
    with tf.GradientTape() as tape:
        loss = masked_loss()(tokens, model([images, tokens], training=True))
    for weight, gradient in zip(model.trainable_variables,
                                tape.gradient(loss, model.trainable_variables)):
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, weight.path


def test_a_trained_trunk_keeps_its_weights():
    classifier = build("lenet5", (8, 8, 1), 3)
    model = network(trunk=headless(classifier))
    np.testing.assert_array_equal(model.get_layer("trunk").get_layer("F6").get_weights()[0],
                                  classifier.get_layer("F6").get_weights()[0])
    assert "logits" not in [layer.name for layer in model.get_layer("trunk").layers]


def test_it_is_saved_and_loaded_with_its_loss_and_metrics(tmp_path):
    model, (images, tokens) = network(dropout=0.5), batch()
    model.compile("adam", masked_loss(0.1), metrics=[TokenAccuracy(), SentenceAccuracy()])
    model.fit([images, tokens], tokens, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate([images, tokens], tokens, verbose=0, return_dict=True) == pytest.approx(
        model.evaluate([images, tokens], tokens, verbose=0, return_dict=True), rel=1e-5)


def test_padding_counts_for_nothing():
    targets = np.array([[4, 5, 2, 0], [4, 2, 0, 0]])
    logits = np.array(np.eye(WORDS)[targets], np.float32) * 3
    logits[0, 1] = logits[0, 1][::-1]  # one word of five is wrong, in one sentence of two
    wild = logits.copy()
    wild[targets == 0] = np.random.default_rng(0).normal(size=(3, WORDS))
    right = np.log(np.exp(3) + WORDS - 1) - 3
    for given in (logits, wild):
        assert float(masked_loss()(targets, given)) == pytest.approx((5 * right + 3) / 5, 1e-5)
        for metric, expected in ((TokenAccuracy(), 4 / 5), (SentenceAccuracy(), 1 / 2)):
            metric.update_state(targets, given)
            assert float(metric.result()) == pytest.approx(expected)


def test_an_image_s_own_sentence_is_drawn():
    captions = np.zeros((200, 3, 4), np.int32)
    captions[:, :, 0] = 1
    captions[:, :, 1] = np.arange(600).reshape(200, 3) + 4
    captions[100:, 2] = 0
    drawn = tf.random.stateless_uniform([200], (3, 4))
    (_, before), after = teacher_forced(tf.range(200), one_sentence(captions, drawn))
    np.testing.assert_array_equal(before[:, 0], 1)
    np.testing.assert_array_equal(before[:, 1:], after[:, :-1])
    which = (after[:, 0].numpy() - 4) - 3 * np.arange(200)
    assert set(which[:100]) == {0, 1, 2} and set(which[100:]) == {0, 1}
    first = one_sentence(captions, tf.zeros([200]))
    np.testing.assert_array_equal(first, captions[:, 0])


def test_it_learns_sentences_by_heart_and_greedy_decoding_says_them():
    images = np.random.default_rng(0).random((12, 8, 8, 1), np.float32)
    captions = encode([["a b c"[:1 + 2 * (i % 3)] + " d" * (i % 2)] for i in range(12)],
                      (*SPECIALS, *"abcd"))
    model = nic((8, 8, 1), 8, captions.shape[2], units=32, width=0.25)
    model.compile(keras.optimizers.Adam(0.01), masked_loss(), metrics=[SentenceAccuracy()])
    (_, before), after = teacher_forced(images, captions[:, 0])
    model.fit([images, before], after, epochs=60, batch_size=12, verbose=0)
    assert model.evaluate([images, before], after, verbose=0)[1] == 1
    np.testing.assert_array_equal(Decoder(model).greedy(images)[0], after)
