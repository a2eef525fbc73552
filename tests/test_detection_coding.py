"""Offsets from anchors, and what is kept of many scored boxes."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from app.detection.coding import decode, encode
from app.detection.decoding import detections

SCALES = (0.1, 0.1, 0.2, 0.2)


def test_offsets_by_hand():
    prior = tf.constant([[0.0, 0, 10, 20]])
    boxes = tf.constant([[[5.0, 10, 25, 20]]])
    plain = [(15 - 5) / 10, (15 - 10) / 20, np.log(2), np.log(0.5)]
    np.testing.assert_allclose(encode(prior, boxes)[0, 0], plain, rtol=1e-5)
    np.testing.assert_allclose(encode(prior, boxes, SCALES)[0, 0], np.divide(plain, SCALES),
                               rtol=1e-5)


@st.composite
def boxes(draw):
    x, y = (draw(st.floats(0, 200, width=32)) for _ in "xy")
    width, height = (draw(st.floats(1, 60, width=32)) for _ in "wh")
    return [x, y, x + width, y + height]


@given(st.lists(st.tuples(boxes(), boxes()), min_size=1, max_size=8), st.booleans())
@settings(deadline=None, max_examples=60)
def test_decoding_inverts_encoding(pairs, scaled):
    prior, truth = (np.array(x, "float32") for x in zip(*pairs))
    scales = SCALES if scaled else (1.0,) * 4
    offsets = encode(prior, truth[None], scales)
    np.testing.assert_allclose(decode(prior, offsets, scales)[0], truth, atol=2e-3)


def test_a_wild_size_is_bounded():
    found = decode(tf.constant([[0.0, 0, 16, 16]]), tf.constant([[[0.0, 0, 1e4, 1e4]]]), SCALES)
    np.testing.assert_allclose(found[0, 0], [8 - 500, 8 - 500, 8 + 500, 8 + 500], rtol=1e-3)


def kept(boxes, scores, **settings):
    found = detections(tf.constant([boxes], tf.float32), tf.constant([scores], tf.float32),
                       (40, 50, 3), **settings)
    return {name: values.numpy()[0] for name, values in found.items()}


def test_a_worse_box_of_the_same_class_goes():
    """IoU 0.8 of the first two; the third is elsewhere."""
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]]
    found = kept(boxes, [[0.6, 0], [0.9, 0], [0.3, 0.2]], most=5)
    assert found["count"] == 3 and found["classes"].dtype == np.int32
    np.testing.assert_allclose(found["scores"], [0.9, 0.3, 0.2, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(found["classes"][:3], [0, 0, 1])
    np.testing.assert_array_equal(found["boxes"][:3], [boxes[1], boxes[2], boxes[2]])


def test_other_classes_do_not_suppress_and_thresholds_hold():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8]]
    assert kept(boxes, [[0.9, 0.0], [0.0, 0.8]])["count"] == 2
    assert kept(boxes, [[0.9, 0.0], [0.0, 0.8]], score_threshold=0.85)["count"] == 1
    assert kept(boxes, [[0.9], [0.8]], iou_threshold=0.85)["count"] == 2
    assert kept(boxes, [[0.9], [0.8]], iou_threshold=0.75)["count"] == 1


def test_no_detection_is_right_too_and_boxes_stay_in_the_image():
    found = kept([[-5, -5, 60, 60]], [[0.5]])
    np.testing.assert_array_equal(found["boxes"][0], [0, 0, 50, 40])
    nothing = kept([[0, 0, 9, 9]], [[0.001]])
    assert nothing["count"] == 0 and not nothing["boxes"].any()


def test_each_class_may_have_its_own_boxes():
    boxes = [[[0, 0, 10, 10], [20, 20, 30, 30]]]
    found = kept(boxes, [[0.5, 0.6]])
    np.testing.assert_array_equal(found["boxes"][:2], [boxes[0][1], boxes[0][0]])


def test_it_is_all_in_the_graph_and_images_do_not_mix():
    boxes = tf.random.stateless_uniform((3, 40, 2), (0, 0)) * 30
    boxes = tf.concat([boxes, boxes + 8], -1)
    scores = tf.random.stateless_uniform((3, 40, 2), (0, 1))
    whole = tf.function(detections)(boxes, scores, (40, 50, 3))
    for i in range(3):
        alone = detections(boxes[i:i + 1], scores[i:i + 1], (40, 50, 3))
        for name in whole:
            np.testing.assert_array_equal(whole[name][i], alone[name][0])
