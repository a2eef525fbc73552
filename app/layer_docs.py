"""The layers and losses by name, the op that each runs, and what the op's docstring says.

A layer's op is the one that its docstring names first, or the one of its own name: the loss
`HalfSquares` runs the op `half_squares`.
"""

import inspect
import re
import sys
import textwrap

import keras

import custom_layers
from app.errors import unknown

KINDS = {"layer": keras.layers.Layer, "loss": keras.losses.Loss}


def names():
    """The layers and losses of the library."""
    values = {name: getattr(custom_layers, name) for name in custom_layers.__all__}
    return [name for name, value in values.items()
            if isinstance(value, type) and issubclass(value, tuple(KINDS.values()))]


def find(given=None):
    """The layers of these names, in whatever case; all where none is given.

    Raises:
        UsageError: for a name that no layer has.
    """
    known = {name.lower(): name for name in names()}
    for name in given or []:
        if name.lower() not in known:
            raise unknown("layer", name, list(known.values()))
    return list(dict.fromkeys(known[name.lower()] for name in given or known))


def kind_of(name):
    return next(k for k, base in KINDS.items() if issubclass(getattr(custom_layers, name), base))


def op_of(name):
    """The op that a layer runs."""
    layer = getattr(custom_layers, name)
    module = vars(sys.modules[layer.__module__])
    own = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()
    candidates = [*re.findall(r"`(\w+)`", layer.__doc__), own]
    return next(module[c] for c in candidates if hasattr(module.get(c), "pair"))


def sections(op):
    """The parts of an op's docstring by name: `summary`, `forward`, `backward`, `shapes` ...

    The summary is its first line. A part begins at the margin with its name and a colon, and
    goes on in indented lines. What begins at the margin without a name are `notes`.
    """
    summary, *lines = inspect.cleandoc(op.__doc__).splitlines()
    parts = {"summary": [summary]}
    for line in lines:
        begins = re.match(r"([A-Z]\w+):\s+(?=\S)", line)
        if begins:
            part = begins[1].lower()
            line = " " * begins.end() + line[begins.end():]
        elif line[:1].strip():
            part = "notes"
        if line.strip():
            parts.setdefault(part, []).append(line)
    return {part: textwrap.dedent("\n".join(lines)) for part, lines in parts.items()}


def symbols(op):
    """The names of an op's tensors, in order, and of its outputs; of `add(*xs)`, x_1, x_2 ..."""
    tensors = [p.name for p in inspect.signature(op.pair).parameters.values()
               if p.kind is p.POSITIONAL_OR_KEYWORD] or [f"x_{i}" for i in range(1, 10)]
    output = re.search(r"-> (\w+)", sections(op)["shapes"])[1]
    return tensors, output
