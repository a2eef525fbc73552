"""Exports for other runtimes than TensorFlow: an ONNX file, or a LiteRT (.tflite) file.

Both take `images`, float32 (N, H, W, C) in [0, 1], and give `probabilities`, float32 (N, classes).
They lie beside the SavedModel versions as `VERSION.onnx` and `VERSION.tflite`: TensorFlow Serving
looks at folders with whole numbers for names, and so passes over them.
"""

import contextlib
import io
import logging
import warnings
from importlib.util import find_spec

import numpy as np
import tensorflow as tf

from app import verification
from app.errors import HandgradError, UsageError, unknown
from app.signatures import network
from custom_layers.gradient import forward_only

FORMATS = {"savedmodel": ("float32",), "onnx": ("float32",),
           "litert": ("float32", "float16", "int8")}
# Of probabilities, by the type of the weights.
TOLERANCES = {"float16": 1e-2, "int8": 0.1}
OPSET = 18


def check_format(format, dtype):
    """A UsageError where there is no such format, it has no such type, or a package is missing."""
    if format not in FORMATS:
        raise unknown("format", format, list(FORMATS))
    if dtype not in FORMATS[format]:
        others = " and ".join(f"--format {name} of {', '.join(types)}"
                              for name, types in FORMATS.items() if len(types) > 1)
        known = " or ".join(FORMATS[format])
        raise UsageError(f"The format {format} is of type {known}; {others}. "
                         f"Received: dtype={dtype}")
    missing = [name for name in ("tf2onnx", "onnxruntime") if find_spec(name) is None]
    if format == "onnx" and missing:
        raise UsageError(f"The format onnx needs {' and '.join(missing)}: "
                         "pip install 'handgrad[onnx]'")


def converted(model, shape, aside, format, dtype, calibration_images, reference):
    """Writes the file below `aside`, checks it against the `reference` and returns it.

    Raises:
        HandgradError: where it does not predict what the model does.
    """
    with forward_only(), _silence():
        if format == "onnx":
            file = aside / "model.onnx"
            file.write_bytes(_to_onnx(model, shape))
        else:
            file = aside / "model.tflite"
            images = reference["images"] if calibration_images is None else calibration_images
            file.write_bytes(_to_litert(model, shape, dtype, images))
        probabilities = predictor(file)(reference["images"])
    difference = verification.distance(probabilities, reference["probabilities"])
    allowed = max(TOLERANCES.get(dtype, 0), reference["tolerance"])
    if not difference <= allowed:
        raise HandgradError(
            f"The {format} file failed its check, and nothing is left of it: `probabilities` are "
            f"{difference:.2g} away from the model's, allowed is {allowed:.0e}")
    return file


def predictor(file):
    """A function from images to the probabilities that an .onnx or .tflite file gives."""
    if file.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})[0]
    with _silence():
        interpreter = tf.lite.Interpreter(str(file))
    return lambda images: _interpret(interpreter, images)


def accuracy(file, split, batch=64):
    """The part of the images in `split` that an .onnx or .tflite file gives their class."""
    predict, right = predictor(file), 0
    for i in range(0, len(split.labels), batch):
        images = split.images[i:i + batch].astype(np.float32) / 255
        right += int((predict(images).argmax(-1) == split.labels[i:i + batch]).sum())
    return right / len(split.labels)


def _interpret(interpreter, images):
    run = interpreter.get_signature_runner()
    return run(images=np.asarray(images, np.float32))["probabilities"]


def _function(model, shape):
    run, _ = network(model, shape)

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32, name="images")])
    def probabilities(images):
        return {"probabilities": tf.nn.softmax(run(images)[0])}

    return probabilities


def _to_onnx(model, shape):
    import tf2onnx

    function = _function(model, shape)
    made, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET)
    return made.SerializeToString()


def _to_litert(model, shape, dtype, calibration_images):
    module = tf.Module()
    module.serve = _function(model, shape)
    concrete = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    if dtype != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if dtype == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if dtype == "int8":
        # Weights and activations; images and probabilities stay float32.
        converter.representative_dataset = lambda: (
            {"images": np.asarray(image[None], np.float32)} for image in calibration_images)
    return converter.convert()


@contextlib.contextmanager
def _silence():
    """Without what the converters print, warn of and log."""
    level = logging.getLogger().manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
