"""Checks a written export in a process that has TensorFlow and NumPy, and nothing of ours.

`app.export` runs this file as a program, in a fresh process: `verification.py FOLDER REFERENCE`.
FOLDER holds the SavedModel, REFERENCE is an .npz of `images` (float32 in [0,1]), `pixels` (the
same as uint8), and what the model itself makes of them: `probabilities` and `labels`, with the
`tolerance`. The process ends with 0, or with 1 and the reason as the last line on stderr.
"""

import re
import sys

import numpy as np

BLOCKED = ("keras", "custom_layers", "app", "tuning")


def verify(folder, reference):
    """Loads the SavedModel and runs both signatures; raises AssertionError where they differ."""
    import tensorflow as tf

    model = tf.saved_model.load(folder)
    with np.load(reference) as arrays:
        expected = dict(arrays)
    encoded = [tf.io.encode_png(image) for image in expected["pixels"]]
    for name, inputs in {
        "serving_default": {"images": tf.constant(expected["images"])},
        "image_bytes": {"image_bytes": tf.stack(encoded)},
    }.items():
        outputs = model.signatures[name](**inputs)
        _compare(name, {key: value.numpy() for key, value in outputs.items()}, expected)


def _compare(signature, outputs, expected):
    probabilities, tolerance = expected["probabilities"], float(expected["tolerance"])
    for name, value, wanted in (
        ("probabilities", outputs["probabilities"], probabilities),
        ("score", outputs["score"], probabilities.max(axis=-1)),
    ):
        difference = np.abs(value - wanted).max()
        # Written so that a NaN fails.
        if not difference <= tolerance:
            raise AssertionError(
                f"`{name}` of signature `{signature}` is {difference:.2g} away from the model's, "
                f"allowed is {tolerance:.0e}"
            )
    best = outputs["probabilities"].argmax(axis=-1)
    wrong = outputs["label"] != np.char.encode(expected["labels"], "utf-8")[best]
    if wrong.any():
        raise AssertionError(f"`label` of signature `{signature}` is not the most probable class")


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
