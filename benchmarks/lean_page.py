"""The page of the lean benchmark, made of its figures alone."""

from statistics import median

from benchmarks.lean_cases import BARS, stock_of

METHOD = """\
# Lean training beside stock Keras and PyTorch

Made by `python -m benchmarks.lean --write --torch-python PYTHON`, which can be run for one network
or mode after another; the figures are in `LEAN.json` too. A step is forward, loss, gradients and
the update of SGD, in one `tf.function`, on the same random images and labels, in float32, with as
many threads as there are cores. PyTorch runs the same network on channels-last images and weights.

A column without a unit is the ratio to stock Keras in the same mode.

- **time**: median step; its ratio is the median of the ratios of steps taken in turn with those of
  the stock network (of XLA: stock XLA), each in a process of its own.
- **grown**: how far resident memory rises over its start in the first five steps of a fresh
  process: the step traced, the runtime started, garbage collected, free memory given back. The
  median of some processes and, in brackets, the smallest and the largest: TensorFlow's executor and
  allocator do not do the same twice. Of XLA and PyTorch they are five later steps, when all is
  compiled and caches are filled, again with free memory given back.
- **allocated**: the most that TensorFlow's allocator had given out in the same steps, over their
  start: without gaps between its buffers, but these may be larger than was asked for.
- **kept**: the bytes that the backward pass reads of the forward pass, by `memory_report`.
"""
WHY = """\
- **LeNet-5, memory.** Four fifths of it is the map of the first convolution, 25 multiply-adds a
  result, and every way not to keep that map costs more than the tenth of the step that passes over
  memory take. Measured (time, memory allocated, of stock): its winners kept, 1.15 and 0.93; the
  convolution run again with its pooling in slices of the batch, 1.20 to 1.25 and 0.38; the map
  kept and only its gradient made in slices, 1.09 and 0.78. By default the map is kept, as stock
  does; `budget` or a smaller `save` keep winners.
- **ResNet50, `budget=0.5`.** A budget counts what is kept, and half of it is not half of the peak:
  beside it are the gradients of 23.6 million weights (94 MB) and some 140 MB by which resident
  memory grows beyond TensorFlow's own buffers, on both sides. With `budget=0.3` the peak is 0.53,
  at 0.87 of the time (TensorFlow's buffers alone: 0.39).
- **MobileNetV2 and EfficientNetB0, bfloat16.** TensorFlow's buffers are at 0.39 of stock's, whose
  resident memory differs from one day to the next (MobileNetV2: 0.87 or 1.13 GB, at the same
  buffers): of the larger the same peak is 0.36.
- **PyTorch compiled.** Of 521 ms of the ops' time in MobileNetV2's lean step, dense convolutions
  are 188, batch normalisation with ReLU 152, ReLU6 53: passes over memory that PyTorch's compiler
  joins with its convolutions, and that TensorFlow's plain graph cannot. Networks of dense
  convolutions (VGG-like, VGG16) are at 0.78 to 0.87. Some of the memory is TensorFlow's allocator,
  which leaves gaps between its buffers (grown over allocated).
- **VGG16, memory.** TensorFlow's own buffers are at 0.69 to 0.72 of stock's. Outside of them are
  140 MB in the lean step and 50 to 160 in stock's; with glibc told to give freed buffers back at
  once (`MALLOC_MMAP_THRESHOLD_=1000000`) both grow less (456 and 491 MB) and the ratio stays. What
  allocates them is not found yet.
- **Machines differ.** Where convolutions are slower beside memory, there is less to win: in a
  profile of the VGG-like network's lean step they are 765 of 860 ms of the ops' time, and the
  same for stock.
"""
HEADER = ("network", "mode", "step ms", "time", "grown MB", "grown", "allocated MB", "allocated",
          "kept MB", "kept")
FIGURES = ("resident", "allocated", "kept")
NAMES = {"time": "time", "resident": "grown", "kept": "kept"}


def value(modes, mode, figure):
    """A figure of a mode, or None: the median where there are several."""
    found = modes.get(mode, {}).get(figure)
    return median(found) if isinstance(found, list) and found else found or None


def ratio(modes, mode, figure, to=None):
    """A mode's figure over another mode's (its stock one), or None where one is missing."""
    to = to or stock_of(mode)
    if figure == "time":  # both were timed in turn with the same stock network
        own, other = (1.0 if m == stock_of(m) else value(modes, m, "ratio") for m in (mode, to))
    else:
        own, other = value(modes, mode, figure), value(modes, to, figure)
    return own / other if own and other else None


def shown(number, digits=2):
    return "-" if number is None else f"{number:.{digits}f}"


def megabytes(found):
    """12.3, or the median with the smallest and the largest of several."""
    if not found:
        return "-"
    if not isinstance(found, list):
        return shown(found / 1e6, 1)
    text = shown(median(found) / 1e6, 1)
    return text if len(found) == 1 else f"{text} ({min(found) / 1e6:.0f}-{max(found) / 1e6:.0f})"


def lines(header, rows):
    return ["| " + " | ".join(header) + " |", "|" + "---|" * len(header),
            *("| " + " | ".join(row) + " |" for row in rows)]


def table(figures):
    """Every mode of every network."""
    rows = []
    for network, entry in figures.items():
        size = "x".join(map(str, (entry["batch"], *entry["shape"])))
        for mode, found in entry["modes"].items():
            row = [f"{network} {size}", mode]
            if "error" in found:
                row += [f"failed: {found['error'][:80]}".replace("|", "/"), *["-"] * 7]
            else:
                row += [shown(found["ms"], 1), shown(ratio(entry["modes"], mode, "time"))]
                for figure in FIGURES:
                    row += [megabytes(found.get(figure)),
                            shown(ratio(entry["modes"], mode, figure))]
            rows.append(row)
    return lines(HEADER, rows)


def bars(figures):
    """What was set out to be reached, one row a network; what is missed is bold."""
    header = ["network"] + [f"{mode} {NAMES[figure]} / {to}" for mode, figure, to in BARS]
    rows = []
    for network, entry in figures.items():
        row = [network]
        for (mode, figure, to), largest in BARS.items():
            found, bar = ratio(entry["modes"], mode, figure, to), largest.get(network)
            missed = bar is not None and found is not None and found > bar
            text = f"**{found:.2f}**" if missed else shown(found)
            row.append(text if bar is None else f"{text} <= {bar:.2f}")
        rows.append(row)
    return lines(header, rows)


def unhelpful(figures):
    """The modes that save less than a tenth of the memory, or take more than a twentieth longer."""
    rows = []
    for network, entry in figures.items():
        for mode in entry["modes"]:
            if not mode.startswith("lean"):
                continue
            memory, time = (ratio(entry["modes"], mode, f) for f in ("resident", "time"))
            if (memory or 0) > 0.9 or (time or 0) > 1.05:
                rows.append((network, mode, shown(memory), shown(time)))
    return lines(("network", "mode", "memory", "time"), rows) if rows else ["Nowhere."]


def machines(figures):
    """The machine of the figures, or the machines with their networks."""
    found = {}
    for network, entry in figures.items():
        versions = {m["version"] for m in entry["modes"].values() if "version" in m}
        found.setdefault(", ".join((entry["machine"], *sorted(versions))), []).append(network)
    if len(found) == 1:
        return [f"Machine: {machine}" for machine in found]
    return [f"- {machine} ({', '.join(networks)})" for machine, networks in found.items()]


def page(figures):
    """The whole page."""
    return "\n".join([
        METHOD, *machines(figures), "",
        "## What was set out to be reached (bold: missed)", "", *bars(figures), "",
        "## Where a bar is missed, and why", "", WHY,
        "## All modes", "", *table(figures), "",
        "## Where it does not help (memory over 0.90 or time over 1.05 of stock)", "",
        *unhelpful(figures)]) + "\n"
