"""Fast R-CNN and SPPNet: regions found beforehand, classified on shared features."""

from dataclasses import dataclass

import keras

from app.detection.detector import Detector
from app.detection.regions import region_detections, region_head, regions_loss
from app.detection.selective_search import proposals
from custom_layers import Concatenate, Reshape, RoIPooling


@dataclass(frozen=True, kw_only=True)
class FastRCNN(Detector):
    """Fast R-CNN: given regions, pooled from the features of the whole image, classified, refined.

    The model takes {"images": (B, H, W, C), "proposals": (B, R, 4)}: `propose` finds the regions,
    once for each image. It gives what `region_head` gives; targets are the labels themselves.

    Source: Girshick, Fast R-CNN, ICCV 2015, section 2. Departs from it: a small residual trunk.

    Attributes:
        stride: of the features that are pooled from.
        proposals: regions of an image, R.
        levels: sides of the grids that a region is pooled to; several are a spatial pyramid.
        regions: regions of an image that are trained, a quarter of them positive.
        lower: the IoU that a negative region has at least.
        units: of the two layers before the last.
    """

    name: str = "fast-rcnn"
    stride: int = 8
    proposals: int = 384
    levels: tuple[int, ...] = (7,)
    regions: int = 64
    lower: float = 0.1
    units: int = 256

    def propose(self, images):
        """The regions float32 (N, R, 4) of images uint8 (N, H, W, C), by selective search."""
        return proposals(images, self.proposals)

    def predictions(self, parts, image_shape, classes, statistics):
        images, maps = parts.features(image_shape, (self.stride,), statistics)
        rois = keras.Input((self.proposals, 4), name="proposals")
        pooled = [RoIPooling(side, 1 / self.stride, name=f"regions{side}")(maps[self.stride], rois)
                  for side in self.levels]
        flat = [Reshape((self.proposals, side * side * x.shape[-1]), name=f"regions{side}_flat")(x)
                for side, x in zip(self.levels, pooled)]
        x = Concatenate(-1, name="pyramid")(flat) if len(flat) > 1 else flat[0]
        regions = region_head(parts, x, rois, classes, self.units)
        return {"images": images, "proposals": rois}, regions

    def targets(self, image_shape, labels):
        return labels

    def loss(self, y_true, y_pred):
        return regions_loss(y_true, y_pred, count=self.regions, positives=self.regions // 4,
                            lower=self.lower)

    def decode(self, outputs, image_shape, **settings):
        return region_detections(outputs, image_shape, **settings)


@dataclass(frozen=True, kw_only=True)
class SPPNet(FastRCNN):
    """SPPNet: given regions, pooled to a pyramid of grids of the features of the whole image.

    Source: He, Zhang, Ren, Sun, Spatial Pyramid Pooling in Deep Convolutional Networks, ECCV 2014,
    section 4. Departs from it: trained as Fast R-CNN is, the trunk too, by softmax and smooth L1,
    where the paper fits linear SVMs and a box regression to fixed features.
    """

    name: str = "sppnet"
    levels: tuple[int, ...] = (6, 3, 2, 1)
