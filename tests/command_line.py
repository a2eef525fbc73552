"""What the tests of the command line run."""

import os
from pathlib import Path

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
# The run "whole" of the fixture `place`.
RUN = "run --model mlp --data small.npz --trials 2 --epochs 2 --augment none --name whole".split()
