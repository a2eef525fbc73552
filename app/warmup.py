"""Requests that TensorFlow Serving runs when it loads a version, before any client's.

It reads them from `assets.extra/tf_serving_warmup_requests`: a TFRecord file of `PredictionLog`
messages. Only the fields that it needs are written, by number, so that its package of protocols
is no dependency:

    PredictionLog   6 predict_log:  PredictLog    1 request:  PredictRequest
    PredictRequest  1 model_spec:   ModelSpec     1 name, 3 signature_name
                    2 inputs:       map<string, TensorProto>, an entry: 1 key, 2 value

Source: tensorflow/serving, tensorflow_serving/apis/{prediction_log,predict,model}.proto.
"""

import numpy as np
import tensorflow as tf

FILE = "tf_serving_warmup_requests"


def write_warmup(folder, name, shape):
    """Writes a request for `serving_default` and one for `image_bytes`, of one black image each."""
    folder.mkdir(exist_ok=True)
    image = np.zeros(shape, np.uint8)
    png = tf.io.encode_png(image).numpy()
    with tf.io.TFRecordWriter(str(folder / FILE)) as file:
        file.write(_log(name, "serving_default", "images", image[None].astype(np.float32)))
        file.write(_log(name, "image_bytes", "image_bytes", [png]))


def _log(model, signature, key, values):
    """A serialized PredictionLog of a request."""
    tensor = tf.make_tensor_proto(values).SerializeToString()
    spec = _field(1, model.encode()) + _field(3, signature.encode())
    entry = _field(1, key.encode()) + _field(2, tensor)
    return _field(6, _field(1, _field(1, spec) + _field(2, entry)))


def _field(number, contents):
    """A field whose contents have a length: a string or a message."""
    return _varint(number << 3 | 2) + _varint(len(contents)) + contents


def _varint(value):
    """Seven bits a byte, the lowest first; the eighth bit says that more follow."""
    bytes_ = bytearray()
    while value > 127:
        bytes_.append(value & 127 | 128)
        value >>= 7
    return bytes([*bytes_, value])
