"""Where a training stands, in one file: the variables of the model and of its optimizer.

Keras's `save_weights` holds the same, in HDF5, and takes ten times as long: too long for a state
after each of a small network's epochs.
"""

import zipfile

import numpy as np

from app.errors import HandgradError


def write_state(model, path):
    """Writes the state of `model`, which is compiled, to `path`, an .npz file."""
    np.savez(path, **{name: variable.numpy() for name, variable in _variables(model).items()})


def read_state(model, path):
    """Takes up the state in `path`.

    Raises:
        HandgradError: where `path` is damaged, or holds the state of another model.
    """
    variables = _variables(model)
    try:
        with open(path, "rb") as file, np.load(file) as kept:
            values = dict(kept)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise HandgradError(f"{path} is damaged ({error}). Remove it to start anew.") from error
    found, expected = ({name: value.shape for name, value in values.items()},
                       {name: tuple(variable.shape) for name, variable in variables.items()})
    if found != expected:
        raise HandgradError(f"{path} holds {len(found)} variables of another model than this, "
                            f"which has {len(expected)}. Remove it to start anew.")
    for name, variable in variables.items():
        variable.assign(values[name])


def _variables(model):
    """All variables by their places: their names depend on what else a process has made."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {f"{owner} {i}": variable
            for owner, variables in (("model", model.variables),
                                     ("optimizer", model.optimizer.variables))
            for i, variable in enumerate(variables)}
