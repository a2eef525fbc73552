"""Measurements, ours beside the peer's. TensorFlow runs as in Handgrad's commands."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
