"""Object detection: detectors, each from images to boxes with a class and a score."""

from app.detection.retinanet import RetinaNet
from app.detection.ssd import SSD

__all__ = ["DETECTORS", "RetinaNet", "SSD"]

DETECTORS = {detector.name: detector for detector in (SSD(), RetinaNet())}
