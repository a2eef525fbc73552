"""Every detector: from labels to targets to boxes again, its gradients, its file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.detection import DETECTORS
from app.detection.boxes import NO_OBJECT
from app.detection.matching import IGNORED
from app.detection.refitting import refit
from app.detection.regions import divided
from app.detection.scoring import score
from app.detection.voc import BCCD, read_voc
from app.detection.yolo_anchors import to_depth
from app.precision import precision, widen_outputs

SHAPE, CLASSES = (50, 70, 3), 3
NONE = [0, 0, 0, 0, NO_OBJECT]
LABELS = np.array([
    [[4, 4, 20, 22, 0], [40, 10, 66, 44, 2], [22, 30, 33, 45, 1]],
    [[10, 20, 30, 34, 1], [2, 1, 68, 49, 2], NONE],
    [NONE, NONE, NONE],
], "float32")
SURE = 20.0


@pytest.fixture(params=DETECTORS, scope="module")
def detector(request):
    return DETECTORS[request.param]


@pytest.fixture(scope="module")
def model(detector):
    keras.utils.set_random_seed(0)
    return detector.build(SHAPE, CLASSES, width=0.125)


def images(count=3):
    return np.random.default_rng(0).random((count, *SHAPE), np.float32)


def inputs(detector, count=3):
    """Images; for a detector that does not find its regions itself, with regions."""
    if not hasattr(detector, "propose"):
        return images(count)
    regions = np.zeros((count, detector.proposals, 4), np.float32)
    regions[:, :3] = LABELS[0, :, :4] + [1, 0, 0, 2]
    regions[:, 3:40] = [10, 10, 25, 25]
    return {"images": images(count), "proposals": regions}


def logit(p):
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def ideal(name, targets):
    """The predictions that say exactly what the targets say."""
    if name in ("faster-rcnn", "fast-rcnn", "sppnet", "rcnn"):
        boxes, classes = np.split(LABELS, [4], -1)
        scores = SURE * np.eye(CLASSES + 1)[classes[..., 0].astype(int)]
        regions = tf.constant(np.concatenate([boxes, scores, np.zeros((3, 3, 4 * CLASSES))], -1),
                              tf.float32)
        return {"regions": regions} if name == "faster-rcnn" else regions
    values, classes = targets[..., :4], targets[..., 4].astype(int)
    there = (classes >= 0)[..., None]
    one_hot = np.eye(CLASSES)[np.maximum(classes, 0)] * there
    if name == "yolo-v1":
        return np.concatenate([values, there, values, there, one_hot], -1).astype("float32")
    if name.startswith("yolo"):
        values = np.concatenate([logit(values[..., :2]), values[..., 2:]], -1)
        scores = [SURE * (2 * there - 1), SURE * (2 * one_hot - 1)]
    elif name == "ssd":
        scores = [SURE * one_hot, SURE * ~there]
    else:
        scores = [SURE * (2 * one_hot - 1)]
    return np.concatenate([values, *scores], -1).astype("float32")


def test_targets_say_where_the_objects_are(detector):
    """What predicts its targets exactly finds every object, and nothing else."""
    targets = keras.tree.map_structure(np.asarray, detector.targets(SHAPE, tf.constant(LABELS)))
    found = detector.decode(ideal(detector.name, targets), SHAPE, score_threshold=0.5)
    np.testing.assert_array_equal(found["count"], [3, 2, 0])
    result = score(found, LABELS, "abc")
    assert result.map == pytest.approx(1)


def test_predictions_have_the_shape_of_the_targets(detector, model):
    outputs, targets = model(inputs(detector)), detector.targets(SHAPE, tf.constant(LABELS))
    if detector.name == "faster-rcnn":
        outputs, targets = outputs["rpn"], targets["rpn"]
        assert model.output["regions"].shape == (None, 64, 4 + 1 + 5 * CLASSES)
    if hasattr(detector, "propose"):
        assert outputs.shape == (3, detector.proposals, 4 + 1 + 5 * CLASSES)
    else:
        assert outputs.shape[:-1] == targets.shape[:-1] and targets.shape[-1] == 5
    assert outputs.dtype == tf.float32


def test_it_trains_in_a_graph_and_every_weight_has_a_gradient(detector, model):
    """On images with objects, and then on as many without."""
    model.compile("adam", loss=detector.loss, jit_compile=False)
    before = [weight.numpy() for weight in model.trainable_weights]
    without = np.broadcast_to(np.float32(NONE), LABELS.shape)
    data = tf.data.Dataset.from_tensor_slices(
        (inputs(detector, 6), np.concatenate([LABELS, without]))).batch(3)
    data = data.map(lambda x, labels: (x, detector.targets(SHAPE, labels)))
    history = model.fit(data, epochs=2, verbose=0, shuffle=False).history["loss"]
    assert np.isfinite(history).all()
    still = [weight.path for weight, old in zip(model.trainable_weights, before)
             if np.array_equal(weight.numpy(), old)]
    assert not still and all(np.isfinite(w.numpy()).all() for w in model.weights)


def test_a_saved_model_answers_the_same(detector, model, tmp_path):
    model.save(tmp_path / "x.keras")
    again = keras.models.load_model(tmp_path / "x.keras", compile=False)
    for one, two in zip(*(keras.tree.flatten(each(inputs(detector))) for each in (model, again))):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_from_images_to_boxes_is_one_graph_for_any_number_of_images(detector, model):
    graph = tf.function(lambda x: detector.decode(model(x, training=False), SHAPE),
                        input_signature=[keras.tree.map_structure(
                            lambda x: tf.TensorSpec((None, *x.shape[1:])), inputs(detector))])
    for count in (1, 3):
        found = graph(inputs(detector, count))
        assert found["boxes"].shape == (count, 100, 4) and found["classes"].dtype == tf.int32
    expected = detector.decode(model(inputs(detector), training=False), SHAPE)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-3)


def test_width_and_depth_scale_the_network(detector):
    def parameters(**sizes):
        return detector.build((64, 64, 1), CLASSES, **sizes).count_params()

    small = parameters(width=0.125)
    assert parameters(width=0.25) > 1.5 * small and parameters(width=0.125, depth=2) > small


def test_a_new_retinanet_is_sure_of_nothing():
    outputs = DETECTORS["retinanet"].build(SHAPE, CLASSES, width=0.25)(images()).numpy()
    assert np.median(tf.sigmoid(outputs[..., 4:])) == pytest.approx(0.01, rel=0.5)


def test_objects_of_one_cell_differ_by_their_priors():
    """A square and a wide one around the same place have slots of their own; the small one is
    in the finest map of YOLO v3, the large one in the coarsest."""
    detector = DETECTORS["yolo-v3"]
    labels = tf.constant([[[8, 8, 16, 16, 0], [4, 7, 20, 17, 1], [0, 0, 64, 96, 2.0]]])
    classes = detector.targets((96, 64, 3), labels)[0, :, 4].numpy()
    slots = [int(np.flatnonzero(classes == kind)[0]) for kind in range(3)]
    fine, middle = 12 * 8 * 3, 6 * 4 * 3
    assert slots[:2] == [(8 + 1) * 3, (8 + 1) * 3 + 2] and slots[2] >= fine + middle
    assert sum(classes >= 0) == 3 and IGNORED in classes


def test_the_passthrough_keeps_every_number():
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    padded = np.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0)))
    inputs = keras.Input((3, 4, 5))
    found = keras.Model(inputs, to_depth(inputs, "p"))(x)
    np.testing.assert_array_equal(found, tf.nn.space_to_depth(padded, 2))


def test_proposals_are_the_best_boxes_inside_the_image_and_constants():
    detector = DETECTORS["faster-rcnn"]
    layer = detector.build(SHAPE, CLASSES, width=0.125).get_layer("proposals")
    rpn = tf.random.stateless_normal((2, len(layer.anchors), 6), (0, 0))
    with tf.GradientTape() as tape:
        tape.watch(rpn)
        rois = layer(rpn)
    assert tape.gradient(rois, rpn) is None and rois.shape == (2, 64, 4)
    x1, y1, x2, y2 = np.moveaxis(rois.numpy(), -1, 0)
    assert (x1 >= 0).all() and (x2 <= 70).all() and (y1 >= 0).all() and (y2 <= 50).all()
    there = (x2 > x1) & (y2 > y1)
    assert there.sum() > 20 and not rois.numpy()[~there].any()


@pytest.mark.slow
@pytest.mark.data
def test_it_learns_eight_images_of_blood_by_heart(detector, handgrad_data):
    shape = (96, 128, 3)
    part = read_voc(f"{handgrad_data}/bccd.tar", class_names=BCCD, image_size=shape[:2]).train
    x, labels = part.images[:8] / np.float32(255), part.labels[:8]
    steps = 400
    model = detector.build(shape, 3, width=0.25, statistics=([0.7] * 3, [0.15] * 3))
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate, clipnorm=10.0), loss=detector.loss)
    if hasattr(detector, "propose"):  # what it makes of regions, not how good they are, is tested
        regions = detector.propose(part.images[:8])
        regions[:, -labels.shape[1]:] = labels[..., :4]
        x = {"images": x, "proposals": regions}
    model.fit(x, detector.targets(shape, tf.constant(labels)), batch_size=8, epochs=steps,
              verbose=0)
    if detector.name == "rcnn":
        refit(model, x, labels)
    result = score(detector.decode(model.predict(x, verbose=0), shape), labels, BCCD)
    assert result.map_50 >= 0.95, result


@pytest.mark.parametrize("name", ["rcnn", "sppnet"])
def test_refitted_scores_are_margins_of_svms_and_offsets_ridge_regressions(name):
    detector = DETECTORS[name]
    model = detector.build(SHAPE, CLASSES, width=0.125)
    trunk = [np.array(w) for w in model.weights if not w.path.startswith(("scores", "offsets"))]
    x = inputs(detector)
    x["proposals"][:, 3:9] = LABELS[0, [0, 1, 2, 0, 1, 2], :4] + [0, 2, -1, 0]
    refit(model, x, LABELS)
    for before, after in zip(trunk, (w for w in model.weights
                                     if not w.path.startswith(("scores", "offsets")))):
        np.testing.assert_array_equal(before, after)
    rois, scores, offsets = divided(model.predict({**x, "proposals": true_regions(detector)}))
    scores = np.asarray(scores)
    assert (scores[..., -1] == 0).all()  # the background's
    for image, row in zip(*np.nonzero(LABELS[..., 4] > NO_OBJECT)):
        own = int(LABELS[image, row, 4])
        assert scores[image, row].argmax() == own and scores[image, row, own] > 0


def true_regions(detector):
    regions = np.zeros((3, detector.proposals, 4), np.float32)
    regions[:, :3] = LABELS[..., :4]
    return regions


def test_a_class_without_objects_is_not_found_after_refitting():
    detector = DETECTORS["sppnet"]
    model = detector.build(SHAPE, CLASSES + 1, width=0.125)
    refit(model, inputs(detector), LABELS)
    found = detector.decode(model.predict(inputs(detector)), SHAPE)
    there = np.arange(found["classes"].shape[1]) < np.asarray(found["count"])[:, None]
    assert CLASSES not in np.asarray(found["classes"])[there]


def test_rcnn_sees_each_region_by_itself():
    """What is in one region changes nothing of another; the regions' context is cut out too."""
    detector = DETECTORS["rcnn"]
    model = detector.build(SHAPE, CLASSES, width=0.125)
    x = inputs(detector)
    x["proposals"][:, 0], x["proposals"][:, 1] = (5, 5, 25, 25), (40, 20, 60, 40)
    before = model.predict(x)
    x["images"][:, 4:26, 4:26] = 0.0
    after = model.predict(x)
    assert np.abs(before[:, 0, 4:] - after[:, 0, 4:]).max() > 1e-6
    np.testing.assert_allclose(before[:, 1], after[:, 1], atol=1e-5)
    np.testing.assert_allclose(model.get_layer("widened")(x["proposals"])[0, 1],
                               [50 - 10 * 227 / 195, 30 - 10 * 227 / 195,
                                50 + 10 * 227 / 195, 30 + 10 * 227 / 195], rtol=1e-5)


def test_mixed_precision_keeps_the_predictions_wide(detector):
    with precision("mixed_bfloat16"):
        model = detector.build(SHAPE, CLASSES, width=0.125)
    widen_outputs(model)
    outputs = model(inputs(detector))
    assert {t.dtype for t in keras.tree.flatten(outputs)} == {tf.float32}
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    narrow = [layer for layer in model.layers if layer.compute_dtype == "bfloat16"]
    assert {"conv1", "each"} & {layer.name for layer in narrow}
    assert np.isfinite(np.concatenate([np.ravel(t) for t in keras.tree.flatten(outputs)])).all()
