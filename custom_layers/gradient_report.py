"""What a gradient check found: rows and failures, and how they print."""

from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Failure:
    """One thing that is wrong.

    `kind` is "gradient" (the numbers are wrong), "missing", "shape", "dtype", "nan",
    "exception", "nonlinear" (in the upstream gradient), "random", "state", "modes" (they
    disagree), "output", "kinks" (too few points were left to conclude), "precision" (right in
    float64, wrong in float32), "batched" (wrong for several upstream gradients at once) or
    "unvectorised" (cannot take them at once). `index`, `analytic`, `numeric` and `ratio`
    (analytic / numeric) are those of the worst element.
    """

    tensor: str
    kind: str
    mode: str
    message: str
    index: tuple | None = None
    analytic: float | None = None
    numeric: float | None = None
    cause: str = ""

    @property
    def ratio(self):
        if self.numeric is None or self.analytic is None:
            return None
        return self.analytic / self.numeric if self.numeric else float("inf")

    def __str__(self):
        text = self.message
        if self.index is not None:
            text += (
                f" at {self.index}: analytic {self.analytic:.10g}, numeric {self.numeric:.10g}, "
                f"ratio {self.ratio:.6g}"
            )
        return f"{text}. Likely cause: {self.cause}" if self.cause else text


@dataclass(frozen=True)
class Row:
    """One tensor in one mode: its largest relative error over `points` differences.

    `kinks` points have no derivative; `undecided` of the `points` one that is lost in rounding.
    """

    tensor: str
    shape: tuple
    mode: str
    error: float
    points: int
    kinks: int
    undecided: int = 0


@dataclass
class Report:
    """The result of `check_gradients`. Prints as a table."""

    name: str
    tolerance: float
    rows: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    skipped: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)
    kinks: int = 0
    undecided: int = 0
    seconds: float = 0.0

    @property
    def ok(self):
        return not self.failures

    @property
    def error(self):
        """The largest relative error of all."""
        return max((row.error for row in self.rows), default=float("inf"))

    @property
    def errors(self):
        """The largest relative error by mode."""
        modes = dict.fromkeys(row.mode for row in self.rows)
        return {m: max(row.error for row in self.rows if row.mode == m) for m in modes}

    @property
    def tensors(self):
        """The names of the tensors that were differentiated by."""
        return list(dict.fromkeys(row.tensor for row in self.rows))

    def raise_if_failed(self):
        """Raises an AssertionError that is the printed report, unless all is well."""
        if not self.ok:
            raise AssertionError(str(self))
        return self

    def __bool__(self):
        return self.ok

    def __str__(self):
        verdict = "ok" if self.ok else "FAILED"
        lines = [
            f"Gradient check of {self.name}: {verdict}, largest relative error "
            f"{self.error:.1e} (tolerance {self.tolerance:.0e}), {self.seconds:.1f} s"
        ]
        if self.rows:
            table = self._table()
            widths = [max(map(len, column)) for column in zip(*table)]
            lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        lines += [f"Not differentiated by: {name} ({why})" for name, why in self.skipped.items()]
        if self.kinks:
            lines.append(f"Points left out, at kinks or jumps: {self.kinks}")
        if self.undecided:
            lines.append(
                f"Points that cannot be decided, their derivative is lost in rounding: "
                f"{self.undecided}"
            )
        lines += self.notes
        modes = {}  # what fails in several modes alike is said once
        for failure in self.failures:
            modes.setdefault((failure.tensor, str(failure)), []).append(failure.mode)
        lines += [f"FAILED {tensor} [{' '.join(m)}]: {text}" for (tensor, text), m in modes.items()]
        return "\n".join(lines)

    def _table(self):
        """The rows as text: a line for each tensor, its errors by mode side by side."""
        table = [["tensor", "shape", "points", "kinks", *self.errors]]
        for tensor in self.tensors:
            rows = [row for row in self.rows if row.tensor == tensor]
            errors = {row.mode: f"{row.error:.1e}" for row in rows}
            row = rows[0]
            table.append([
                tensor, str(row.shape), str(row.points), str(row.kinks),
                *(errors.get(mode, "") for mode in self.errors),
            ])
        return table

    __repr__ = __str__


def malformed(name, mode, source, gradient):
    """The failure of a gradient that cannot be one of `source`, whatever its numbers; or None."""
    if gradient is None:
        return None
    expected, got = tuple(source.shape), tuple(gradient.shape)
    if got != expected:
        cause = "it is transposed" if got == expected[::-1] else ""
        if len(got) == len(expected) + 1 or got[1:] == expected[1:]:
            cause = "it is not summed over the batch, or wrongly is"
        return Failure(name, "shape", mode, f"expected shape {expected}, got {got}", cause=cause)
    if gradient.dtype != source.dtype:
        return Failure(
            name, "dtype", mode, f"expected dtype {source.dtype.name}, got {gradient.dtype.name}"
        )
    bad = np.argwhere(~np.isfinite(tf.cast(gradient, "float64").numpy()))
    if len(bad):
        index = tuple(int(k) for k in bad[0])
        return Failure(
            name, "nan", mode,
            f"the gradient is {gradient.numpy()[index]} at {index}, "
            f"not finite in {len(bad)} of {gradient.numpy().size} elements",
        )
    return None


def raised(mode, error):
    """The failure of a mode whose forward or backward pass raised `error`."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 400 else text[:400] + "..."
    return Failure("all", "exception", mode, f"{type(error).__name__}: {text}")
