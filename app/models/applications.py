"""Networks of `keras.applications` as trunks, from scratch or with given weights."""

from pathlib import Path

import keras

from app.models.common import check_size, decay, start_functional
from app.transfer import AS_PUBLISHED
from custom_layers import Dense, Rescaling

# How the published weights expect images: RGB in [-1, 1]; normalised by ImageNet's mean and
# deviation; BGR in 0 .. 255, less ImageNet's mean.
SYMMETRIC, TORCH, CAFFE = "symmetric", "torch", "caffe"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BGR_MEAN = (103.939, 116.779, 123.68)

# By name: Keras's function, how it expects images, the smallest side, settings.
APPLICATIONS = {
    "vgg16": ("VGG16", CAFFE, 32, {}),
    "vgg19": ("VGG19", CAFFE, 32, {}),
    "resnet50": ("ResNet50", CAFFE, 32, {}),
    "resnet101": ("ResNet101", CAFFE, 32, {}),
    "resnet50v2": ("ResNet50V2", SYMMETRIC, 32, {}),
    "densenet121": ("DenseNet121", TORCH, 32, {}),
    "mobilenet": ("MobileNet", SYMMETRIC, 32, {}),
    "mobilenetv2": ("MobileNetV2", SYMMETRIC, 32, {}),
    "mobilenetv3small": ("MobileNetV3Small", SYMMETRIC, 32, {"include_preprocessing": False}),
    "efficientnetv2b0": ("EfficientNetV2B0", TORCH, 32, {"include_preprocessing": False}),
    "inceptionv3": ("InceptionV3", SYMMETRIC, 75, {}),
}


def application(image_shape, classes, *, trunk, weights=None, weight_decay=0.0, statistics=None):
    """A network of `keras.applications` under a new head: mean of each map, dense layer.

    Args:
        weights: None: from scratch, with images normalised as for all networks. "imagenet": those
            that Keras has in its cache, or loads; or a file of them (Keras's "notop" files).
            Images are then given to the trunk as its weights expect them, as they are where the
            `statistics` are `AS_PUBLISHED`.

    Source: keras.io/api/applications.
    """
    function, expects, least, settings = APPLICATIONS[trunk]
    check_size(trunk, image_shape, least, "keras.applications' own limit")
    if weights not in (None, "imagenet"):
        weights = _existing(weights)
    if weights and image_shape[2] != 3:
        raise ValueError(f"The weights of {trunk} are for images of 3 channels. "
                         f"Received: {image_shape[2]}")
    published = weights or statistics == AS_PUBLISHED
    images, x = start_functional(image_shape, None if published else statistics)
    try:
        given = getattr(keras.applications, function)(
            include_top=False, weights=weights, pooling="avg", input_shape=image_shape,
            input_tensor=_expected(x, expects) if published else x, **settings)
    except Exception as error:  # of the file, of the download, of its contents
        if weights is None:
            raise
        raise ValueError(f"The weights {weights} cannot be loaded into {trunk}: "
                         f"{(str(error).splitlines() or [type(error).__name__])[0]}") from error
    logits = Dense(classes, name="logits")(given.output)
    model = keras.Model(images, logits, name=f"keras-{trunk}")
    if not weight_decay:
        return model
    decayed = keras.models.clone_model(
        model, clone_function=lambda layer: _decayed(layer, weight_decay))
    if weights:
        decayed.set_weights(model.get_weights())
    return decayed


def _existing(weights):
    """The path of a file of weights; Keras would take a name that is none for a classic's."""
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ValueError("--weights must be 'imagenet' or a file of weights. "
                         f"Received: {weights}, which is no file")
    return str(path.absolute())


def _expected(x, expects):
    """Images in [0, 1] as the published weights of a network expect them."""
    if expects == SYMMETRIC:
        return Rescaling(2.0, -1.0, name=AS_PUBLISHED)(x)
    if expects == TORCH:
        mean, deviation = IMAGENET
        return keras.layers.Normalization(
            mean=mean, variance=[d * d for d in deviation], name=AS_PUBLISHED)(x)
    bgr = keras.ops.flip(Rescaling(255.0, name="bytes")(x), axis=-1)
    return keras.layers.Normalization(mean=BGR_MEAN, variance=[1.0] * 3, name=AS_PUBLISHED)(bgr)


def _decayed(layer, weight_decay):
    """A copy of a layer, its kernel penalised."""
    config = layer.get_config()
    for name in ("kernel_regularizer", "depthwise_regularizer"):
        if name in config:
            config[name] = decay(weight_decay)
    return type(layer).from_config(config)
