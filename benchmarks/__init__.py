"""Measurements, ours beside the peer's in the same run."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
