"""What all tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import pytest  # noqa: E402

pytest_plugins = "pytester"


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(0)


@pytest.fixture
def handgrad_data():
    """The folder of real data, or a skip that says why."""
    folder = os.environ.get("HANDGRAD_DATA")
    if not folder:
        pytest.skip("HANDGRAD_DATA is not set: it names the folder of real data (mnist, ...)")
    return folder


def skip_if_backend(backend, reason):
    """What Keras's own tests import from their conftest (tests/test_keras_own.py runs them)."""
    return pytest.mark.skipif(keras.backend.backend() == backend, reason=reason)
