"""The trunk of all detectors: a small residual network, and its feature maps by stride."""

from app.models.common import scaled, start_functional
from app.models.resnet import ResidualParts
from custom_layers import Conv2D, Cropping2D, ReLU, UpSampling2D


class Parts(ResidualParts):
    """What detectors are made of; all channels times `width`."""

    momentum = 0.9  # they train for some hundred steps, in which 0.99 would not forget the first

    def features(self, image_shape, strides, *, depth=1, statistics=None):
        """(images, {stride: feature map}): of each stride asked for.

        A 3x3 convolution of stride 2, then stages of `depth` residual blocks, each of half the
        resolution of the one before, of 64, 128, ... 512 maps (where more than 4, 512 again).
        Departs from ResNet: the first convolution is small and nothing is pooled, for images
        of 64 to 256 pixels whose objects are a few pixels large.
        """
        images, x = start_functional(image_shape, statistics)
        x = self.activated(x, 32, 3, 2, "conv1")
        maps, stride, stage = {2: x}, 2, 1
        while stride < max(strides):
            stride, stage = 2 * stride, stage + 1
            filters = min(16 * stride, 512)
            for i in range(depth):
                name, step = f"conv{stage}_{i + 1}", 1 if i else 2
                shortcut = x
                if step > 1:
                    shortcut = self.conv(x, filters, 1, step, f"{name}_shortcut")
                x = self.block(x, shortcut, (filters, filters), (3, 3), step, name)
            maps[stride] = x
        return images, {stride: maps[stride] for stride in strides}

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


def enlarged(x, like, name):
    """A feature map of twice the stride of `like`, at its size: each pixel becomes four."""
    x = UpSampling2D(2, name=name)(x)
    extra = [a - b for a, b in zip(x.shape[1:3], like.shape[1:3])]
    if any(extra):  # an odd side was rounded up
        x = Cropping2D([(0, n) for n in extra], name=f"{name}_cropped")(x)
    return x
