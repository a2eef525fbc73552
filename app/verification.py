"""Checks a written export in a process that has TensorFlow and NumPy, and nothing of ours.

`app.export` runs this file as a program, in a fresh process: `verification.py FOLDER REFERENCE`.
FOLDER holds the SavedModel, REFERENCE is an .npz of `images` (float32 in [0,1]), `pixels` (the
same as uint8), and what the model itself makes of them: `probabilities`, `labels` and perhaps
`features` and `activations/NAME` of each layer, with the `tolerance`; or, of other tasks than
classification, of `given/SIGNATURE/INPUT` and `wanted/SIGNATURE/OUTPUT`. The process ends with 0,
or with 1 and the reason as the last line on stderr.
"""

import re
import sys

import numpy as np

BLOCKED = ("keras", "custom_layers", "app", "tuning")
ACTIVATIONS = "activations/"


def verify(folder, reference):
    """Loads the SavedModel and runs its signatures; raises AssertionError where they differ."""
    import tensorflow as tf

    model = tf.saved_model.load(folder)
    with np.load(reference) as arrays:
        expected = dict(arrays)
    if "probabilities" not in expected:
        return _verify_answers(tf, model, expected)
    expected["score"] = expected["probabilities"].max(axis=-1)
    images = tf.constant(expected["images"])
    encoded = [tf.io.encode_png(image) for image in expected["pixels"]]

    def run(signature, **inputs):
        outputs = model.signatures[signature](**inputs)
        return {key: value.numpy() for key, value in outputs.items()}

    for name, inputs in {
        "serving_default": {"images": images},
        "image_bytes": {"image_bytes": tf.stack(encoded)},
    }.items():
        _compare(name, run(name, **inputs), expected)
    examples = tf.constant([_example(tf, png.numpy()) for png in encoded])
    _compare_classify(run("classify", inputs=examples), expected)
    if "features" in expected:
        _near("features", run("features", images=images), "features", expected)
    layers = {key for key in expected if key.startswith(ACTIVATIONS)}
    if layers:
        _compare_activations(run("activations", images=images), layers, expected)


def _verify_answers(tf, model, expected):
    """Of `given/SIGNATURE/INPUT` the model makes `wanted/SIGNATURE/OUTPUT`."""
    given, wanted, found = {}, {}, {}
    for key, value in expected.items():
        side, signature, name = key.split("/")
        if side == "wanted":
            wanted[signature, name] = value
        else:  # encoded images are written as hexadecimal digits
            given.setdefault(signature, {})[name] = value if value.dtype.kind != "U" else [
                bytes.fromhex(str(one)) for one in value]
    for signature, inputs in given.items():
        outputs = model.signatures[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        found |= {(signature, name): plain(value.numpy()) for name, value in outputs.items()}
    if wrong := differing(found, wanted):
        raise AssertionError(wrong)


def differing(found, wanted, tolerance=1e-4, share=0.01):
    """Why answers are not equal, or None: numbers up to a tolerance, all else but for a share.

    The places of a mask where two classes are as likely may differ by rounding.
    """
    if set(found) != set(wanted):
        return f"the answers are {sorted(found)}, not {sorted(wanted)}"
    for key, value in found.items():
        other = wanted[key]
        if value.shape != other.shape:
            return f"`{key}` has the shape {value.shape}, not {other.shape}"
        if value.dtype.kind == "f":
            if not distance(value, other) <= tolerance:
                return (f"`{key}` is {distance(value, other):.2g} away from the model's, "
                        f"allowed is {tolerance:.0e}")
        elif value.size and np.mean(value != other) > share:
            return f"`{key}` is another in {np.mean(value != other):.0%} of its places"


def plain(value):
    """An array whose bytes are text, which NumPy can write."""
    if value.dtype != object:
        return value
    return np.array([text.decode() for text in value.ravel()], str).reshape(value.shape)


def distance(value, wanted):
    """The largest difference, relative to values above 1."""
    return np.max(np.abs(value - wanted), initial=0) / max(1, np.max(np.abs(wanted), initial=0))


def _near(signature, outputs, name, expected, of=None):
    difference = distance(outputs[name], expected[of or name])
    # Written so that a NaN fails.
    if not difference <= float(expected["tolerance"]):
        raise AssertionError(
            f"`{name}` of signature `{signature}` is {difference:.2g} away from the model's, "
            f"allowed is {float(expected['tolerance']):.0e}"
        )


def _compare(signature, outputs, expected):
    for name in ("probabilities", "score"):
        _near(signature, outputs, name, expected)
    best = outputs["probabilities"].argmax(axis=-1)
    wrong = outputs["label"] != np.char.encode(expected["labels"], "utf-8")[best]
    if wrong.any():
        raise AssertionError(f"`label` of signature `{signature}` is not the most probable class")


def _compare_classify(outputs, expected):
    _near("classify", outputs, "scores", expected, of="probabilities")
    labels = np.char.encode(expected["labels"], "utf-8")
    if (outputs["classes"] != np.broadcast_to(labels, outputs["scores"].shape)).any():
        raise AssertionError("`classes` of signature `classify` are not the labels")


def _compare_activations(outputs, layers, expected):
    if {ACTIVATIONS + name for name in outputs} != layers:
        raise AssertionError("`activations` are not those of the model's layers")
    for name in sorted(outputs):
        _near("activations", outputs, name, expected, of=ACTIVATIONS + name)


def _example(tf, png):
    """A serialized tf.Example of an encoded image."""
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[png]))
    features = tf.train.Features(feature={"image_bytes": value})
    return tf.train.Example(features=features).SerializeToString()


if __name__ == "__main__":
    # None makes an import fail, also one that TensorFlow or the SavedModel would do.
    sys.modules.update(dict.fromkeys(BLOCKED))
    try:
        verify(*sys.argv[1:])
    except Exception as error:
        # TensorFlow's first lines say where, the one with an error's name says what.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = [line for line in lines if re.match(r"\w+Error: ", line)] or lines[:1]
        sys.exit(f"{type(error).__name__}: {' '.join(what[:1])}")
