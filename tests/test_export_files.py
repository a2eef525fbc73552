"""What an export holds: signatures, warm-up requests, sums; its size; other formats."""

import json
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from model_cases import fast, small
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from test_export import CLASSES, Interrupt, arguments, network, probabilities, samples
from test_folding import LEFT, randomize

from app import formats, signatures
from app.averaging import ensemble
from app.checksums import differing
from app.errors import HandgradError, UsageError
from app.export import export
from app.folding import count_norms
from app.signatures import with_features
from app.warmup import FILE

SHAPE = (12, 10, 1)


def small_export(model, to, **changed):
    shape, classes = model.input_shape[1:], "abcd"
    return export(**arguments(model, to, class_names=list(classes),
                              sample_images=samples(shape=shape), **changed))


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    model = network()
    return model, export(**arguments(model, tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def loaded(version):
    return tf.saved_model.load(str(version[1]))


# A process each; the others are named as slow tests.
FEW = ("airbench", "googlenet-auxiliary", "resnet20", "keras-mobilenetv2")


@pytest.mark.parametrize("name", fast(FEW))
def test_every_kind_of_network_is_exported_folded(name, tmp_path):
    """The export checks all signatures against the model, with its normalisation in place."""
    model = randomize(small(name))
    folder = small_export(model, tmp_path)
    card = json.loads((folder / "assets.extra" / "model_card.json").read_text())
    graph = (folder / "saved_model.pb").read_bytes()
    assert card["folded"] == count_norms(model) - LEFT.get(name, 0)
    if name not in LEFT or not LEFT[name]:
        assert b"moving_variance" not in graph and b"FusedBatchNorm" not in graph


def test_features_are_what_the_last_layer_is_given(version, loaded):
    model, _ = version
    x = samples(5)
    found = loaded.signatures["features"](images=x)
    assert set(found) == {"features"}
    before = keras.Model(model.inputs, model.layers[-1].input)
    wanted = before([x], training=False)
    np.testing.assert_allclose(found["features"], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        tf.nn.softmax(model.layers[-1](found["features"])), probabilities(model, x), atol=1e-5)


@pytest.mark.parametrize("name, after", [("nin", "conv"), ("airbench", "largest"),
                                         ("lenet5-1998", "F6")])
def test_features_where_the_last_layer_is_not_the_last_with_weights(name, after):
    model = small(name)
    features = with_features(model)(samples(shape=model.input_shape[1:]))[1]
    last = [layer for layer in model.layers if layer.weights][-1]
    assert features.shape[1:] == last.input.shape[1:]


def test_an_ensemble_has_no_features(tmp_path):
    folder = small_export(ensemble([small("resnet20"), small("resnet20")]), tmp_path)
    found = tf.saved_model.load(str(folder)).signatures
    assert set(found) == {"serving_default", "image_bytes", "classify"}


def test_classify_is_tensorflow_servings_method(version, loaded):
    model, folder = version
    pixels = np.round(samples(4) * 255).astype(np.uint8)
    examples = []
    for image in pixels:
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(
            tf.io.encode_png(image).numpy())
        examples.append(example.SerializeToString())
    found = loaded.signatures["classify"](inputs=tf.constant(examples))
    np.testing.assert_allclose(found["scores"], probabilities(model, pixels / np.float32(255)),
                               atol=1e-5)
    labels = [[label.decode() for label in row] for row in found["classes"].numpy()]
    assert labels == [list(CLASSES)] * 4
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    given = saved.meta_graphs[0].signature_def
    assert given["classify"].method_name == "tensorflow/serving/classify"
    assert set(given["classify"].inputs) == {"inputs"}
    assert set(given["classify"].outputs) == {"classes", "scores"}
    assert given["serving_default"].method_name == "tensorflow/serving/predict"


def messages():
    """The messages of a warm-up request, by TensorFlow Serving's published definitions."""
    file = descriptor_pb2.FileDescriptorProto(name="warmup.proto", package="t", syntax="proto3",
                                              dependency=["tensorflow/core/framework/tensor.proto"])
    text, message = 9, 11
    for name, fields in {
        "ModelSpec": [("name", 1, text, ""), ("signature_name", 3, text, "")],
        "PredictRequest": [("model_spec", 1, message, ".t.ModelSpec"),
                           ("inputs", 2, message, ".t.PredictRequest.InputsEntry")],
        "PredictLog": [("request", 1, message, ".t.PredictRequest")],
        "PredictionLog": [("predict_log", 6, message, ".t.PredictLog")],
    }.items():
        described = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            described.field.add(name=field, number=number, type=kind, type_name=of or None,
                                label=3 if field == "inputs" else 1)
    entry = file.message_type[1].nested_type.add(name="InputsEntry")
    entry.field.add(name="key", number=1, type=text, label=1)
    entry.field.add(name="value", number=2, type=message, label=1,
                    type_name=".tensorflow.TensorProto")
    entry.options.map_entry = True
    pool = descriptor_pool.DescriptorPool()
    for needed in ("types", "tensor_shape", "resource_handle", "tensor"):
        source = TensorProto.DESCRIPTOR.file.pool.FindFileByName(
            f"tensorflow/core/framework/{needed}.proto")
        copy = descriptor_pb2.FileDescriptorProto()
        source.CopyToProto(copy)
        pool.Add(copy)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.PredictionLog"))


def test_warm_up_requests_run(version, loaded):
    log, seen = messages(), []
    for record in tf.data.TFRecordDataset(str(version[1] / "assets.extra" / FILE)):
        request = log.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "net"
        inputs = {key: tf.make_ndarray(TensorProto.FromString(value.SerializeToString()))
                  for key, value in request.inputs.items()}
        signature = request.model_spec.signature_name
        outputs = loaded.signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        assert outputs["probabilities"].shape == (1, 3)
        seen.append((signature, *inputs))
    assert seen == [("serving_default", "images"), ("image_bytes", "image_bytes")]


def test_sums_are_those_of_all_files(version, tmp_path):
    folder = version[1]
    check = ["sha256sum", "--strict", "-c", "assets.extra/SHA256SUMS"]
    done = subprocess.run(check, cwd=folder, capture_output=True, text=True)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert done.returncode == 0 and done.stdout.count(": OK") == len(files) - 1
    assert differing(folder) == []


def test_changed_missing_and_added_files_differ(tmp_path):
    folder = export(**arguments(network(), tmp_path))
    labels = folder / "assets" / "labels.txt"
    labels.write_text(labels.read_text().upper())
    (folder / "assets.extra" / FILE).unlink()
    (folder / "more").write_text("")
    assert differing(folder) == ["assets.extra/" + FILE, "assets/labels.txt", "more"]


@pytest.mark.parametrize("most", [0, 2**30], ids=["variables", "constants"])
def test_size_is_that_of_the_parameters(most, tmp_path, monkeypatch):
    monkeypatch.setattr(signatures, "MOST_CONSTANT", most)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(),
                              keras.layers.Dense(2000, use_bias=False),
                              keras.layers.BatchNormalization(), keras.layers.ReLU(),
                              keras.layers.Dense(500), keras.layers.Dense(3)])
    folder = export(**arguments(model, tmp_path))
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    parameters = 4 * model.count_params()
    assert 0.9 * parameters < stored <= 1.1 * parameters
    inside = (folder / "saved_model.pb").stat().st_size
    assert (inside > parameters / 2) == (most > 0)


@pytest.mark.parametrize("format, dtype, size", [
    ("onnx", "float32", 1.0), ("litert", "float32", 1.0), ("litert", "float16", 0.5),
    ("litert", "int8", 0.25)])
def test_other_formats_predict_the_same(format, dtype, size, tmp_path):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    model = randomize(small("vgg-c-bn", width=0.25, units=64))
    logits = model(samples(5, model.input_shape[1:]), training=False)
    model.layers[-1].kernel.assign(2 * model.layers[-1].kernel / np.std(logits))
    (tmp_path / "net" / "4").mkdir(parents=True)
    file = small_export(model, tmp_path, format=format, dtype=dtype)
    suffix = {"onnx": ".onnx", "litert": ".tflite"}[format]
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        "4", f"5{suffix}", f"5{suffix}.json"]
    x = samples(5, model.input_shape[1:])
    found = formats.predictor(file)(x)
    allowed = {"float32": 1e-5, "float16": 1e-2, "int8": 0.1}[dtype]
    np.testing.assert_allclose(found, probabilities(model, x), atol=allowed)
    assert np.ptp(found) > 2 * allowed
    assert 0.9 * size < file.stat().st_size / (4 * model.count_params()) < size + 0.15
    card = json.loads((tmp_path / "net" / f"5{suffix}.json").read_text())
    assert (card["version"], card["format"], card["dtype"]) == (5, format, dtype)
    assert set(card["outputs"]) == {"probabilities"}
    assert small_export(model, tmp_path).name == "6"


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_a_file_that_fails_its_check_leaves_nothing(format, tmp_path, monkeypatch):
    if format == "onnx":
        pytest.importorskip("tf2onnx")
    with pytest.raises(KeyboardInterrupt):
        export(**arguments(network(Interrupt()), tmp_path, format=format))
    monkeypatch.setattr(formats, "predictor", lambda file: lambda images: np.ones((3, 3)) / 2)
    with pytest.raises(HandgradError, match=f"The {format} file failed its check") as raised:
        export(**arguments(network(), tmp_path, format=format))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings, message", [
    ({"format": "onx"}, "Did you mean 'onnx'"),
    ({"dtype": "int8"}, "savedmodel is of type float32; --format litert of float32, float16, int8"),
    ({"format": "litert", "dtype": "bfloat16"}, "float32 or float16 or int8"),
])
def test_wrong_formats_are_named(settings, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        export(**arguments(network(), tmp_path, **settings))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'handgrad\[onnx\]'"):
        formats.check_format("onnx", "float32")


def test_folding_that_is_not_equal_is_not_exported(tmp_path, monkeypatch):
    def wrong(model):
        other = keras.models.clone_model(model)
        other.set_weights([w + 0.1 for w in model.get_weights()])
        return other

    monkeypatch.setattr("app.export.folded", wrong)
    model = small("resnet20")
    folder = small_export(model, tmp_path)
    x = samples(2, model.input_shape[1:])
    served = tf.saved_model.load(str(folder))
    np.testing.assert_allclose(served.signatures["serving_default"](images=x)["probabilities"],
                               probabilities(model, x), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_command_prints_the_accuracy_before_and_after(dtype, handgrad, tmp_path):
    code, out, _ = handgrad("export", "trained", "--format", "litert", "--dtype", dtype, "--to",
                            tmp_path, "--json")
    value = json.loads(out)
    assert code == 0 and value["exported"] == str(tmp_path / "trained" / "1.tflite")
    assert abs(value["exported_accuracy"] - value["test_accuracy"]) <= 0.1
