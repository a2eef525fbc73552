"""Maps that poolings have rounded up, brought back to a size."""

from custom_layers import Cropping2D, UpSampling2D


def cropped(x, size, name=None):
    """`x` (N, H, W, C) without what it has beyond `size` at the right and below."""
    extra = [have - want for have, want in zip(x.shape[1:3], size)]
    if name is None and not any(extra):
        return x
    return Cropping2D(((0, extra[0]), (0, extra[1])), name=name)(x)


def enlarged(scores, factor, size):
    """Scores of a feature map as the logits of an image's pixels, by bilinear interpolation."""
    if factor > 1:
        scores = UpSampling2D(factor, interpolation="bilinear", name="enlarge")(scores)
    return cropped(scores, size, name="logits")
