"""Object detection: detectors, each from images to boxes with a class and a score."""

from dataclasses import replace

from app.detection.fast_rcnn import FastRCNN, SPPNet
from app.detection.faster_rcnn import FasterRCNN
from app.detection.rcnn import RCNN
from app.detection.retinanet import RetinaNet
from app.detection.settings import Settings
from app.detection.ssd import SSD
from app.detection.yolo import YOLO1
from app.detection.yolo_anchors import YOLO2, YOLO3
from app.errors import HandgradError

__all__ = ["DETECTORS", "FastRCNN", "FasterRCNN", "RCNN", "RetinaNet", "SPPNet", "SSD", "YOLO1",
           "YOLO2", "YOLO3", "detector_of"]

DETECTORS = {
    detector.name: detector
    for detector in (SSD(), RetinaNet(), YOLO1(), YOLO2(), YOLO3(), FasterRCNN(), FastRCNN(),
                     SPPNet(), RCNN())
}


def detector_of(network):
    """The detector that a network was built by, with the settings that it has."""
    kept = next((layer for layer in network.layers if isinstance(layer, Settings)), None)
    if kept is None:
        raise HandgradError(f"The network '{network.name}' is no detector: it has no layer with "
                            "the settings of one, as those that `app.detection` builds have")
    return replace(DETECTORS[kept.detector], **kept.settings)
