"""`memory_report`: the bytes that each layer keeps for the backward pass, stock and lean."""

from dataclasses import asdict, dataclass

import keras
import tensorflow as tf

from custom_layers.byte_sizes import memory_bytes, shown
from custom_layers.gradient_memory import trace
from custom_layers.lean_graph import functional_of

# The memories that a printed report says the largest batch for.
MEMORIES = ("8 GB", "16 GB")


@dataclass(frozen=True)
class LayerMemory:
    """What a layer keeps, {what: bytes}, in stock Keras and in lean training."""

    layer: str
    type: str
    stock: dict
    lean: dict

    @property
    def stock_bytes(self):
        return sum(self.stock.values())

    @property
    def lean_bytes(self):
        return sum(self.lean.values())


@dataclass(frozen=True)
class MemoryReport:
    """What a training step keeps for its backward pass. Prints as a table; sizes in bytes.

    Attributes:
        rows: a `LayerMemory` for each layer that keeps something, in the order of the network.
        stock, lean: what all layers keep together.
        stock_peak, lean_peak: the most alive at once, with what a step needs in passing, if
            ops run in the worst of the orders tried (`gradient_peak.peak`); the weights, their
            gradients and the batch itself aside.
        batch_bytes: the inputs, which are kept either way and counted in none of these.
        weight_bytes, gradient_bytes: the model's variables, and a gradient of each trainable one.
        unknown: layers that keep something whose size shows only as they run: it is not counted.
        without: how many layers keep nothing, stock or lean.
    """

    model: str
    batch_size: int
    input_shape: object
    save: str
    budget: float | None
    rows: list
    stock_peak: int
    lean_peak: int
    batch_bytes: int
    weight_bytes: int
    gradient_bytes: int
    unknown: list
    without: int

    @property
    def stock(self):
        return sum(row.stock_bytes for row in self.rows)

    @property
    def lean(self):
        return sum(row.lean_bytes for row in self.rows)

    @property
    def ratio(self):
        """What lean training keeps, as a fraction of what stock Keras does."""
        return self.lean / self.stock if self.stock else 1.0

    def by_what(self):
        """{what: (stock bytes, lean bytes)} over all layers, the largest first."""
        found = {}
        for row in self.rows:
            for side, by in enumerate((row.stock, row.lean)):
                for what, size in by.items():
                    found.setdefault(what, [0, 0])[side] += size
        return dict(sorted(((w, tuple(s)) for w, s in found.items()), key=lambda x: -max(x[1])))

    def largest_batch(self, memory, *, lean=True, slots=2, spare=1 / 3):
        """The largest batch that trains in `memory`: bytes, or a text such as "8 GB" or "8 GiB".

        Whatever the batch, there are the weights, a gradient of each and `slots` further copies
        that the optimiser holds of them (2: Adam; 1: momentum; 0: plain SGD). Each sample adds its
        share of the peak, buffers in passing included, and of the inputs. The share `spare` of
        the memory is left for what a graph does not show: the program itself, the workspaces of
        kernels, gaps between buffers.

        Returns 0 where not even one sample fits.
        """
        bytes_ = memory_bytes(memory)
        fixed = self.weight_bytes + (1 + slots) * self.gradient_bytes
        peak = self.lean_peak if lean else self.stock_peak
        each = (peak + self.batch_bytes) / self.batch_size
        return max(0, int((bytes_ * (1 - spare) - fixed) / each))

    def as_dict(self):
        """All of it as plain values, for JSON."""
        totals = {"stock": self.stock, "lean": self.lean, "ratio": self.ratio}
        largest = {memory: {"stock": self.largest_batch(memory, lean=False),
                            "lean": self.largest_batch(memory)} for memory in MEMORIES}
        return asdict(self) | totals | {"largest_batch": largest}

    def __str__(self):
        how = self.save if self.budget is None else f"{self.save}, budget {self.budget:g}"
        lines = [f"Kept for the backward pass by {self.model}, batch {self.batch_size} of "
                 f"{self.input_shape}; lean: {how}", *self._table()]
        lines.append(f"The batch itself: {shown(self.batch_bytes)}. Weights: "
                     f"{shown(self.weight_bytes)}. Layers that keep nothing: {self.without}")
        if self.unknown:
            lines.append("Not counted, as its size shows only when it runs: what is kept by "
                         + ", ".join(self.unknown))
        for memory in MEMORIES:
            lines.append(f"Largest batch in {memory} with Adam: "
                         f"{self.largest_batch(memory, lean=False):,} stock, "
                         f"{self.largest_batch(memory):,} lean")
        return "\n".join(lines)

    def _table(self):
        table = [["layer", "type", "stock", "lean", "what stock keeps", "what lean keeps"]]
        table += [[row.layer, row.type, shown(row.stock_bytes), shown(row.lean_bytes),
                   _words(row.stock, row.type), _words(row.lean, row.type)] for row in self.rows]
        table.append(["total", "", shown(self.stock), shown(self.lean), "",
                      f"{self.ratio:.0%} of stock"])
        widths = [max(map(len, column)) for column in zip(*table)]
        for row in table:
            cells = [cell.rjust(width) if column in (2, 3) else cell.ljust(width)
                     for column, (cell, width) in enumerate(zip(row, widths))]
            yield ("  " + "  ".join(cells)).rstrip()

    __repr__ = __str__


def memory_report(model, input_shape=None, batch_size=32, *, save="float32", budget=None):
    """What `model` and `lean(model, save=save, budget=budget)` keep for the backward pass.

    It is measured on the traced graphs of a training step, without running one: what the
    backward pass reads of the forward pass, each buffer once, weights and the batch aside. That
    is of a plain graph; XLA may keep less.

    Args:
        model: a functional or Sequential model that is built, or what `lean` made of one, whose
            own settings are then taken.
        input_shape: without the batch's size, by default the model's own; for several inputs a
            list or a dict of shapes, as the model takes them. A number is the `batch_size`.
        batch_size: samples a step.
        save, budget: see `lean`.

    Returns:
        A `MemoryReport`.

    Raises:
        ValueError: for what `lean` refuses, a model without trainable weights, an `input_shape`
            that is not the model's or leaves one open, and a `batch_size` below 1.
    """
    from custom_layers.lean import LeanModel, lean  # which offers this function, too

    if isinstance(input_shape, int):
        if batch_size != 32:
            raise ValueError("The batch's size is given twice: a number in second place is one. "
                             f"Received: {input_shape}, batch_size={batch_size}")
        input_shape, batch_size = None, input_shape
    if isinstance(model, LeanModel):
        if save != "float32" or budget is not None:
            raise ValueError(
                "`save` and `budget` are those of the lean model. Give the model that it is made "
                f"of, `view.model`, to try others. Received: save={save!r}, budget={budget!r}")
        specs, view = _specs(model.model, input_shape, batch_size), model
        model = view.model
    else:
        specs = _specs(model, input_shape, batch_size)
        view = lean(model, save=save, budget=budget)
    stock, leaner = trace(model, specs), trace(view, specs)
    if view in leaner.kept:  # operations that are no layer's
        leaner.kept[model] = leaner.kept.pop(view)
    names = dict(_named(model))
    kept = [layer for layer in dict.fromkeys([*stock.layers, *leaner.kept])
            if layer in stock.kept or layer in leaner.kept]
    rows = [LayerMemory(names.get(layer, "other"), type(layer).__name__,
                        stock.kept.get(layer, {}), leaner.kept.get(layer, {})) for layer in kept]
    unknown = dict.fromkeys(names.get(layer, "other") for layer in stock.unknown + leaner.unknown)
    idle = [layer for layer in names.keys() - kept
            if not isinstance(layer, (keras.Model, keras.layers.InputLayer))]
    return MemoryReport(
        model=model.name, batch_size=batch_size,
        input_shape=keras.tree.map_structure(lambda spec: tuple(spec.shape[1:]), specs),
        save=view.save_as, budget=view.budget, rows=rows,
        stock_peak=stock.peak, lean_peak=leaner.peak, batch_bytes=stock.inputs,
        weight_bytes=_bytes(model.variables) + max(stock.copies, leaner.copies),
        gradient_bytes=_bytes(model.trainable_variables), unknown=list(unknown),
        without=len(idle))


def _specs(model, input_shape, batch_size):
    """The inputs of a step, of fixed shapes, in the structure in which the model takes them."""
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError("`batch_size` must be a whole number, at least 1. "
                         f"Received: batch_size={batch_size!r}")
    structure = functional_of(model)._inputs_struct
    specs = []
    for (path, x), shape in zip(keras.tree.flatten_with_path(structure),
                                _shapes(structure, input_shape)):
        shape = tuple(x.shape[1:]) if input_shape is None else shape
        expected = tf.TensorShape(x.shape)
        if None in shape or not expected.is_compatible_with((batch_size, *shape)):
            raise ValueError(
                f"`input_shape` must fix the shape of the model's input {x.name}, which is "
                f"{tuple(x.shape)} with the batch. "
                f"Received: input_shape={input_shape!r}, batch_size={batch_size}")
        specs.append(tf.TensorSpec((batch_size, *shape), x.dtype))
    return keras.tree.pack_sequence_as(structure, specs)


def _shapes(structure, given):
    """The shapes given for the inputs, in their order; None for each where none are."""
    inputs = keras.tree.flatten_with_path(structure)
    if given is None:
        return [None] * len(inputs)
    if isinstance(given, dict):
        names = [path[-1] if isinstance(structure, dict) else x.name for path, x in inputs]
        shapes = [given.get(name) for name in names] if set(given) == set(names) else []
    else:
        single = isinstance(given, (list, tuple)) and all(isinstance(n, int) for n in given)
        shapes = [given] if single else list(given)
    sizes = [n for shape in shapes for n in (shape if isinstance(shape, (list, tuple)) else [0])]
    if len(shapes) != len(inputs) or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ValueError(
            f"`input_shape` must be a shape without the batch's size for each of the model's "
            f"inputs, {', '.join(x.name for _, x in inputs)}. Received: input_shape={given!r}")
    return [tuple(shape) for shape in shapes]


def _words(by, type_):
    """What is kept, the largest first; less than a hundredth of it is not worth a word."""
    total = sum(by.values())
    names = [what for what, size in sorted(by.items(), key=lambda x: -x[1]) if size > total / 100]
    return ", ".join(names).replace(f"{type_} output", "output")


def _bytes(variables):
    return sum(tf.TensorShape(v.shape).num_elements() * tf.as_dtype(v.dtype).size
               for v in variables)


def _named(model, path=""):
    """(layer, name) of all layers of a model, those of nested models with the models' names."""
    yield model, (path or model.name).rstrip("/")
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _named(layer, f"{path}{layer.name}/")
        else:
            yield layer, path + layer.name
