"""The SavedModel of a network: its functions, by the names that TensorFlow Serving calls them."""

import keras
import tensorflow as tf
from keras.src.models.functional import Functional
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.saved_model import fingerprinting_utils

from custom_layers.gradient import forward_only

# Weights up to so many bytes are stored as constants of the graph, which TensorFlow computes
# ahead with and fuses; a graph can hold 2 GB.
MOST_CONSTANT = 2**30
CLASSIFY = "tensorflow/serving/classify"
# ITU-R 601, as Pillow converts colour to grey.
_LUMA = (0.299, 0.587, 0.114)
_NORMS = (keras.layers.BatchNormalization, keras.layers.Normalization)


def with_features(model):
    """A model that gives (logits, features), or (logits,) where there are no features.

    Features are what the last layer with weights is given: the activations of the last hidden
    layer. Where several layers are last, as in an ensemble, there are none.
    """
    if not isinstance(model, (Functional, keras.Sequential)) or not model.built:
        return lambda images: (_float(model(images, training=False)),)
    graph = model if isinstance(model, Functional) else model._functional
    made = {id(tensor): node for depth in graph._nodes_by_depth.values()
            for node in depth for tensor in node.outputs}
    node = made[id(model.outputs[0])]
    while node.input_tensors and not _is_last(node.operation):
        if len(node.input_tensors) > 1 or isinstance(node.operation, keras.Model):
            return lambda images: (_float(model(images, training=False)),)
        node = made[id(node.input_tensors[0])]
    outputs = [model.outputs[0], *node.input_tensors[:1]]
    both = keras.Model(graph._inputs_struct, outputs)
    return lambda images: tuple(map(_float, both(images, training=False)))


def _is_last(operation):
    """Whether it has weights, and is no normalisation."""
    return (isinstance(operation, keras.layers.Layer) and bool(operation.weights)
            and not isinstance(operation, (keras.Model, *_NORMS)))


def _float(x):
    return tf.cast(x, tf.float32)


def network(model, shape):
    """(function from images to logits and features, how many it returns).

    Its weights are constants, and there are no variables, up to `MOST_CONSTANT` bytes.
    """
    spec = tf.TensorSpec((None, *shape), tf.float32, name="images")
    concrete = tf.function(with_features(model), input_signature=[spec]).get_concrete_function()
    shapes = [output.shape for output in concrete.structured_outputs]
    held = sum(v.shape.num_elements() * v.dtype.size for v in concrete.variables)
    if held > MOST_CONSTANT:
        return concrete, len(shapes)
    frozen = convert_variables_to_constants_v2(concrete, lower_control_flow=False)

    def run(images):
        return [tf.ensure_shape(y, s) for y, s in zip(frozen(images), shapes)]

    return run, len(shapes)


def write_saved_model(model, class_names, shape, aside, more):
    """Writes the SavedModel of `model` to `aside/model`, with `more` functions by their names."""
    with forward_only():
        functions = signatures(model, class_names, shape) | more
    write_functions(functions, class_names, aside / "model")
    _set_method(aside / "model", "classify", CLASSIFY)


def write_functions(functions, class_names, path):
    """Writes a SavedModel of {signature: `tf.function`} to `path`; the names are its labels."""
    labels = path.parent / "labels.txt"
    labels.write_text("\n".join(class_names) + "\n", encoding="utf-8")
    # Not the Keras model: tracked as well, it would store every weight a second time.
    module = tf.Module()
    module.labels = tf.saved_model.Asset(str(labels))
    with forward_only():
        concrete = [function.get_concrete_function() for function in functions.values()]
        module.weights = list({id(v): v for f in concrete for v in f.variables}.values())
        tf.saved_model.save(
            module, str(path), signatures=functions,
            options=tf.saved_model.SaveOptions(experimental_custom_gradients=False))


def signatures(model, class_names, shape):
    """The functions by name."""
    run, results = network(model, shape)
    names = tf.constant(list(class_names))
    images_spec = tf.TensorSpec((None, *shape), tf.float32, name="images")

    def outputs(images):
        probabilities = tf.nn.softmax(run(images)[0])
        return {
            "probabilities": probabilities,
            "label": tf.gather(names, tf.argmax(probabilities, axis=-1)),
            "score": tf.reduce_max(probabilities, axis=-1),
        }

    def decoded(contents):
        return tf.map_fn(lambda one: decode(one, *shape), contents,
                         fn_output_signature=tf.TensorSpec(shape, tf.float32))

    @tf.function(input_signature=[images_spec])
    def predict(images):
        return outputs(images)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
    def predict_encoded(image_bytes):
        return outputs(decoded(image_bytes))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="inputs")])
    def classify(inputs):
        spec = {"image_bytes": tf.io.FixedLenFeature((), tf.string)}
        contents = tf.io.parse_example(inputs, spec)["image_bytes"]
        scores = tf.nn.softmax(run(decoded(contents))[0])
        classes = tf.tile(names[None], (tf.shape(scores)[0], 1))
        return {"classes": classes, "scores": scores}

    @tf.function(input_signature=[images_spec])
    def features(images):
        return {"features": run(images)[1]}

    found = {"serving_default": predict, "image_bytes": predict_encoded, "classify": classify}
    if results > 1:
        found["features"] = features
    return found


def _set_method(folder, signature, method):
    """Names the method of TensorFlow Serving that a signature is for, where it is not predict."""
    file = folder / "saved_model.pb"
    saved = SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].signature_def[signature].method_name = method
    file.write_bytes(saved.SerializeToString(deterministic=True))
    # It holds the sum of the file.
    fingerprinting_utils.write_fingerprint(str(folder))


def decode(contents, height, width, channels):
    """An encoded image as float32 (height, width, channels) in [0, 1], as `app.images` does."""
    image = tf.io.decode_image(contents, expand_animations=False)
    size = tf.shape(image)
    box_height = tf.clip_by_value(size[1] * height // width, 1, size[0])
    box_width = tf.clip_by_value(size[0] * width // height, 1, size[1])
    top, left = (size[0] - box_height) // 2, (size[1] - box_width) // 2
    image = image[top:top + box_height, left:left + box_width]
    return _resized(image, height, width, channels)


def decode_whole(contents, height, width, channels):
    """(an encoded image, stretched and not cut, as `app.detection` reads it; its (height, width)).
    """
    image = tf.io.decode_image(contents, expand_animations=False)
    return _resized(image, height, width, channels), tf.cast(tf.shape(image)[:2], tf.float32)


def _resized(image, height, width, channels):
    """An image uint8 (h, w, 1 to 4) as float32 (height, width, channels) in [0, 1]."""
    several = tf.shape(image)[2] > 2
    image = tf.image.resize(image, (height, width), antialias=True)
    # One or two channels are grey and alpha, three or four are RGB and alpha.
    image = tf.gather(image, tf.where(several, [0, 1, 2], [0, 0, 0]), axis=-1)
    if channels == 1:
        image = tf.reduce_sum(image * _LUMA, axis=-1, keepdims=True)
    return image / 255
