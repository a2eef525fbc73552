"""The trunk of all detectors, and its feature maps by stride."""

from app.models.common import scaled, start_functional
from app.models.resnet import ResidualParts
from app.models.trunks import SMALL, check_weights, feature_maps, trunk_of
from custom_layers import Conv2D, Cropping2D, ReLU, UpSampling2D


class Parts(ResidualParts):
    """What detectors are made of.

    Args:
        width: the factor of all channels, of a trunk of `keras.applications` excepted.
        depth: residual blocks in each stage of the small trunk.
        trunk: "small", or the name of a network of `app.models`.
        weights: of a trunk of `keras.applications`: "imagenet", or a file.
    """

    momentum = 0.9  # they train for some hundred steps, in which 0.99 would not forget the first

    def __init__(self, width, weight_decay, depth=1, trunk=SMALL, weights=None):
        super().__init__(width, weight_decay)
        check_weights(trunk, weights)
        self.depth, self.trunk, self.given, self.weight_decay = depth, trunk, weights, weight_decay

    def features(self, image_shape, strides, statistics=None):
        """(images, {stride: feature map}): of each stride asked for.

        Of a network of `app.models` those before its head; where it ends at a smaller stride, 3x3
        convolutions of stride 2 go on.
        """
        if self.trunk == SMALL:
            images, maps = self._small(image_shape, max(strides), statistics)
        else:
            trunk = trunk_of(self.trunk, image_shape, weights=self.given, width=self.width,
                             momentum=self.momentum, weight_decay=self.weight_decay,
                             statistics=statistics)
            images, maps = trunk.input, feature_maps(trunk)
        last = max(maps)
        while last < max(strides):
            last, x = 2 * last, maps[last]
            maps[last] = self.activated(x, min(16 * last, 512), 3, 2, f"beyond{last}")
        missing = [stride for stride in strides if stride not in maps]
        if missing:
            raise ValueError(f"The trunk '{self.trunk}' has no map of a stride of "
                             f"{', '.join(map(str, missing))} on images {image_shape}. It has: "
                             f"{', '.join(map(str, sorted(maps)))}")
        return images, {stride: maps[stride] for stride in strides}

    def _small(self, image_shape, last, statistics):
        """(images, {stride: feature map}) of a small residual network, to the stride `last`.

        A 3x3 convolution of stride 2, then stages of `depth` residual blocks, each of half the
        resolution of the one before, of 64, 128, ... 512 maps (where more than 4, 512 again).
        Departs from ResNet: the first convolution is small and nothing is pooled, for images
        of 64 to 256 pixels whose objects are a few pixels large.
        """
        images, x = start_functional(image_shape, statistics)
        x = self.activated(x, 32, 3, 2, "conv1")
        maps, stride, stage = {2: x}, 2, 1
        while stride < last:
            stride, stage = 2 * stride, stage + 1
            filters = min(16 * stride, 512)
            for i in range(self.depth):
                name, step = f"conv{stage}_{i + 1}", 1 if i else 2
                shortcut = x
                if step > 1:
                    shortcut = self.conv(x, filters, 1, step, f"{name}_shortcut")
                x = self.block(x, shortcut, (filters, filters), (3, 3), step, name)
            maps[stride] = x
        return images, maps

    def activated(self, x, filters, kernel, strides, name):
        """A convolution, its batch normalisation and ReLU."""
        return ReLU(name=f"{name}_relu")(self.conv(x, filters, kernel, strides, name))

    def predictor(self, filters, name, kernel=3, bias="zeros"):
        """The convolution that gives raw predictions: small weights, a bias."""
        return Conv2D(filters, kernel, padding="same", name=name, bias_initializer=bias,
                      kernel_initializer="glorot_normal",
                      kernel_regularizer=self.initial["kernel_regularizer"])

    def scaled(self, filters):
        return scaled(filters, self.width)


def upsampled(x, like, name):
    """A feature map of twice the stride of `like`, at its size: each pixel becomes four."""
    x = UpSampling2D(2, name=name)(x)
    extra = [a - b for a, b in zip(x.shape[1:3], like.shape[1:3])]
    if any(extra):  # an odd side was rounded up
        x = Cropping2D([(0, n) for n in extra], name=f"{name}_cropped")(x)
    return x
