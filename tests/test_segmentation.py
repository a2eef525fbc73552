import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.metrics import jaccard_score

from app import augmentation, images
from app.data import Data
from app.errors import HandgradError, UsageError
from app.models.arithmetic import shapes_only
from app.runs import Config
from app.segmentation import data as data_sets
from app.segmentation import VOID
from app.pictures.masks import overlay, palette
from app.segmentation.scoring import evaluate, intersection_over_union
from app.segmentation.unet import unet
from app.split import Split
from app.tasks import find_task
from app.training import check, fit, new_model

SEGMENT = find_task("segment")
COUNTS = {"fcn-32s": 136_152_917, "fcn-16s": 134_815_994, "fcn-8s": 134_489_759,
          "segnet": 29_449_355, "segnet-basic": 1_416_587}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_the_published_ones(name):
    network = SEGMENT.networks[name]
    with shapes_only():
        model = network(network.image_shape, network.classes)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == COUNTS[name]


@pytest.mark.parametrize("name", SEGMENT.networks)
def test_any_size_is_segmented_pixel_by_pixel(name):
    small = {"width": 0.02} if name.startswith("fcn") else {"width": 0.1}
    model = SEGMENT.networks[name]((45, 37, 3), 4, **small)
    assert model(tf.zeros((2, 45, 37, 3))).shape == (2, 45, 37, 4)


def test_a_stem_sees_less_and_answers_for_every_pixel():
    model = SEGMENT.networks["unet"]((50, 70, 3), 5, stem=2, filters=4)
    assert model(tf.zeros((1, 50, 70, 3))).shape == (1, 50, 70, 5)
    assert model.get_layer("down0_conv1").input.shape[1:3] == (25, 35)


def test_a_levels_filters_are_capped_and_its_finest_level_may_be_light():
    model = unet((32, 32, 1), 3, levels=3, filters=4, most=10, finest=1)
    maps = {layer.name: layer.filters for layer in model.layers if hasattr(layer, "filters")}
    assert maps == {
        "down0_conv1": 4, "down1_conv1": 8, "down1_conv2": 8, "down2_conv1": 10, "down2_conv2": 10,
        "bottom_conv1": 10, "bottom_conv2": 10, "up2_conv1": 10, "up2_conv2": 10,
        "up1_conv1": 8, "up1_conv2": 8, "up0_conv1": 4, "scores": 3}


@pytest.mark.parametrize("name", ["unet-photo", "segnet-basic-photo"])
def test_a_darker_image_is_segmented_alike(name):
    network = SEGMENT.networks[name]((48, 32, 3), 11, statistics=((0.4,) * 3, (0.2,) * 3))
    photo = np.random.default_rng(1).random((2, 48, 32, 3), np.float32)
    dark = photo * [0.25, 0.3, 0.5] + [0.01, 0.0, 0.1]  # another contrast in each channel
    np.testing.assert_allclose(network(dark), network(photo), rtol=0.05, atol=0.05)


def test_fcn_begins_as_bilinear_interpolation_of_its_scores():
    model = SEGMENT.networks["fcn-8s"]((32, 32, 3), 3, width=0.02)
    x = tf.random.normal((1, 4, 4, 3))
    ours = model.get_layer("upsample")(x)
    theirs = tf.image.resize(x, (32, 32))
    # Away from the border, where a transposed convolution sees zeros.
    np.testing.assert_allclose(ours[:, 8:-8, 8:-8], theirs[:, 8:-8, 8:-8], atol=1e-5)


def test_iou_by_hand():
    #         predicted: a  b      a: 2 / (2 + 1 + 1), b: 3 / (3 + 1 + 1), c is nowhere
    confusion = np.array([[2, 1, 0], [1, 3, 0], [0, 0, 0]])
    np.testing.assert_allclose(intersection_over_union(confusion), [0.5, 0.6, np.nan])


class Known(keras.Model):
    """A network whose logits are known: those of the pixel's value."""

    def __init__(self, table, shape):
        super().__init__()
        self.table = tf.constant(table, tf.float32)
        self.shapes = shape

    input_shape = property(lambda self: (None, *self.shapes))
    output_shape = property(lambda self: (None, *self.shapes[:2], self.table.shape[1]))

    def call(self, x, training=False):
        return tf.gather(self.table, tf.cast(tf.round(x[..., 0] * 255), tf.int32))


def test_evaluation_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(8, 4))
    pixels = rng.integers(0, 8, (5, 6, 7, 1), np.uint8)
    masks = rng.integers(0, 4, (5, 6, 7), np.uint8)
    masks[0, :3] = VOID
    found = evaluate(Known(table, (6, 7, 1)), Split(pixels, masks), "abcd", batch_size=2)
    predicted, valid = table[pixels[..., 0]].argmax(-1), masks != VOID
    np.testing.assert_allclose(found.iou, jaccard_score(
        masks[valid], predicted[valid], labels=range(4), average=None))
    assert found.mean_iou == pytest.approx(found.iou.mean())
    assert found.accuracy == pytest.approx((predicted == masks)[valid].mean())
    log = table - np.log(np.exp(table).sum(1, keepdims=True))
    expected = -np.take_along_axis(log[pixels[..., 0]], np.minimum(masks, 3)[..., None], -1)
    assert found.loss == pytest.approx(expected[..., 0][valid].mean(), rel=1e-5)
    alone = evaluate(Known(table, (6, 7, 1)), Split(pixels[2:3], masks[2:3]), "abcd")
    assert found.by_image[2] == pytest.approx(alone.mean_iou)
    assert found.confusion.sum() == valid.sum()


def test_void_is_neither_learned_nor_measured():
    loss = SEGMENT.loss(None, "unet")
    logits = tf.random.normal((2, 4, 4, 3))
    masks = np.random.default_rng(0).integers(0, 3, (2, 4, 4)).astype(np.uint8)
    masks[0] = VOID
    assert float(loss(masks, logits)) == pytest.approx(float(loss(masks[1:], logits[1:])))
    model = SEGMENT.networks["unet"]((4, 4, 1), 3, levels=1, filters=2)
    metric, other = SEGMENT.metrics(model)[0], SEGMENT.metrics(model)[0]
    metric.update_state(masks, logits)
    other.update_state(masks[1:], logits[1:])
    assert float(metric.result()) == pytest.approx(float(other.result()))


@pytest.mark.parametrize("augment", ["flip=1", "shift=0.3", "rotate=40", "scale=0.4,shift",
                                     "flip,rotate=20,shear=0.3,squeeze=0.3"])
def test_masks_stay_aligned_with_their_images(augment):
    """An image that is its mask: wherever one class surrounds a pixel, both show it."""
    masks = np.zeros((6, 40, 40), np.uint8)
    masks[:, 5:20, 8:30], masks[:, 22:36, 15:25] = 1, 2
    pictures = (masks * 100)[..., None]
    drawn = augmentation.draw(augmentation.parse(augment), 6, 40, 40, 3, tf.constant(0, tf.int64))
    moved = augmentation.apply(tf.constant(pictures), drawn)[..., 0].numpy() * 255 / 100
    found = SEGMENT.moved(tf.constant(masks), drawn["map"], (40, 40, 1)).numpy()
    sure = (np.abs(moved - np.round(moved)) < 0.01) & (found != VOID)
    assert sure.mean() > 0.4 and set(np.unique(found[sure])) == {0, 1, 2}
    # Where a pixel of ground and one of class 2 meet, half of each looks like class 1.
    assert (found[sure] == np.round(moved[sure])).mean() > 0.995
    assert (found != masks).any()


def write(root, part, name, pixels, mask):
    for folder, array in ((root / part, pixels), (root / f"{part}annot", mask)):
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / f"{name}.png")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        for i in range(count):
            write(tmp_path, part, f"{i:02d}", rng.integers(0, 256, (12, 16, 3), np.uint8),
                  rng.choice([0, 1, VOID], (12, 16)).astype(np.uint8))
    return tmp_path


def test_a_folder_of_images_and_masks(folder):
    data = SEGMENT.load(str(folder))
    assert data.describe()["counts"] == {"train": 5, "validation": 2, "test": 3}
    assert data.class_names == ("sky", "road") and data.image_shape == (12, 16, 3)
    assert data.train.labels.shape == (5, 12, 16) and data.train.files[0].endswith("00.png")
    shares = data.describe()["pixels_per_class"]["train"]
    assert sum(shares) == (data.train.labels != VOID).sum()
    small = SEGMENT.load(str(folder), image_size=(6, 8))
    assert small.train.labels.shape == (5, 6, 8)
    assert set(np.unique(small.train.labels)) <= {0, 1, VOID}  # nothing between the classes


def test_a_folder_without_parts_is_divided_by_the_seed(folder):
    (folder / "train").rename(folder / "images")
    (folder / "trainannot").rename(folder / "masks")
    for name in ("val", "valannot", "test", "testannot"):
        for file in (folder / name).iterdir():
            target = "masks" if name.endswith("annot") else "images"
            file.rename(folder / target / f"{name[0]}{file.name}")
        (folder / name).rmdir()
    data, again = (SEGMENT.load(str(folder), seed=4) for _ in range(2))
    assert data.describe()["counts"] == {"train": 6, "validation": 2, "test": 2}
    assert data.fingerprint == again.fingerprint
    assert len({*data.train.files, *data.validation.files, *data.test.files}) == 10


def change(mask, function):
    with Image.open(mask) as image:
        found = np.array(image)
    Image.fromarray(function(found)).save(mask)


def spoil(what):
    def spoiled(root):
        mask = root / "trainannot" / "01.png"
        if what == "size":
            Image.fromarray(np.zeros((12, 15), np.uint8)).save(mask)
        elif what == "label":
            Image.fromarray(np.full((12, 16), 2, np.uint8)).save(mask)
        elif what == "missing":
            mask.unlink()
        elif what == "colour":
            Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(mask)
        elif what == "broken":
            (root / "train" / "01.png").write_bytes(b"no image")
        elif what == "classes":
            (root / "classes.txt").unlink()
        elif what == "black and white":
            for mask in (root / "trainannot").iterdir():
                change(mask, lambda found: (found > 0) * np.uint8(255))
        elif what == "one class":
            (root / "classes.txt").write_text("sky\n")
        elif what == "empty":
            for file in (root / "val").iterdir():
                file.unlink()
    return spoiled


@pytest.mark.parametrize("what, said", [
    ("size", "01.png does not fit: it has 12 x 15 pixels, its image 01.png has 12 x 16"),
    ("label", "its label 2 is beyond the 2 classes, 0 to 1; 255 is void"),
    ("missing", "01.png has no mask. Expected: "),
    ("colour", "a mask must hold one byte a pixel"),
    ("broken", "01.png cannot be read"),
    ("classes", "classes.txt is missing"),
    ("black and white", "must show at least two of the classes sky, road, by the numbers 0, 1"),
    ("one class", "must name at least two classes"),
    ("empty", "val holds no image"),
])
def test_a_folder_that_is_wrong_is_one_clear_line(folder, what, said):
    spoil(what)(folder)
    with pytest.raises(HandgradError) as error:
        SEGMENT.load(str(folder))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_masks_of_one_bit_have_two_classes(folder):
    before = SEGMENT.load(str(folder)).train.labels
    for mask in (folder / "trainannot").iterdir():
        change(mask, lambda found: found == 1)
    np.testing.assert_array_equal(SEGMENT.load(str(folder)).train.labels, before == 1)


def test_no_file_is_left_out(folder):
    with pytest.raises(UsageError, match="--skip-corrupt is for classification"):
        SEGMENT.load(str(folder), skip_corrupt=True)


def test_an_unknown_name(tmp_path):
    with pytest.raises(UsageError, match="camvid"):
        SEGMENT.load("camvid2")
    with pytest.raises(UsageError, match="64x64"):
        SEGMENT.load("digit-scenes", image_size=32)
    (tmp_path / "sub").mkdir()
    with pytest.raises(HandgradError, match="neither train/"):
        data_sets.read_folder(tmp_path)


@pytest.mark.data
def test_camvid(handgrad_data, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = SEGMENT.load("camvid", image_size=(90, 120))
    assert data.describe()["counts"] == {"train": 367, "validation": 101, "test": 233}
    assert set(np.unique(data.train.labels)) == {*range(11), VOID}
    assert len(data.class_names) == 11 and data.image_shape == (90, 120, 3)


def test_masks_are_resized_as_images_are(tmp_path):
    """The same box is cut from both."""
    square = np.zeros((10, 30), np.uint8)
    square[:, 10:20] = 200
    Image.fromarray(square).save(tmp_path / "image.png")
    Image.fromarray(square // 200).save(tmp_path / "mask.png")
    image = images.decode(tmp_path / "image.png", (10, 10), 1)
    mask = images.decode_mask(tmp_path / "mask.png", (10, 10))
    assert (image == 200).all() and (mask == 1).all()


def test_elastic_is_refused():
    config = Config("unet", "digit-scenes", task="segment", augment="elastic")
    with pytest.raises(UsageError, match="elastic"):
        check(config, few())


def few(count=48):
    """Squares of two classes on noise."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 80, (count, 16, 16, 1), np.uint8)
    masks = np.zeros((count, 16, 16), np.uint8)
    for i in range(count):
        y, x = rng.integers(0, 8, 2)
        masks[i, y:y + 7, x:x + 7] = 1 + i % 2
        pixels[i, y:y + 7, x:x + 7] += np.uint8(70 + 90 * (i % 2))
    part = Split(pixels, masks)
    return Data("squares", ("ground", "grey", "white"), part, part.take(np.arange(16)),
                part.take(np.arange(16)), counted="pixels", count=data_sets.count_pixels)


def test_a_small_network_learns_to_segment():
    config = Config("unet", "squares", task="segment", epochs=20, batch_size=8,
                    learning_rate=1e-2, augment="shift", sizes={"levels": 1, "filters": 8})
    data = few()
    model = new_model(config, data)
    history = fit(model, config, data.train, data.validation).history
    assert history["val_mean_iou"][-1] > 0.9
    found = evaluate(model, data.test, data.class_names)
    assert found.mean_iou == pytest.approx(history["val_mean_iou"][-1], abs=1e-3)
    assert found.worst(1)[0] == np.argmin(found.by_image)


def test_colours_tell_classes_apart():
    colours = palette(12)[:12].astype(int)
    distances = np.abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(12, dtype=int)
    assert distances.min() > 40
    mask = np.array([[0, VOID]], np.uint8)
    seen = overlay(np.full((1, 2, 1), 200, np.uint8), mask, 12)
    assert (seen[0, 1] == 200).all() and (seen[0, 0] < 200).all()
