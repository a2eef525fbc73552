"""`handgrad layers`: what each layer computes, how its gradient does, and whether it is proven."""

import re
import textwrap

import keras
from rich.console import Group
from rich.text import Text

import custom_layers
from app.check_records import describe, last_check, records
from app.console import console
from app.layer_docs import find, kind_of, op_of, sections
from app.number_grid import beside, grids

FORMULAS = ("forward", "backward", "shapes")
IN_THE_LIST = (*FORMULAS, "source")


def list_layers(given):
    kept = records()
    rows = [row(name, kept) for name in find(given)]
    if given:
        from app.worked_example import worked_example

        for shown in rows:
            shown["example"] = worked_example(shown["name"])
    texts = map(_InFull, rows) if given else (*map(_in_short, rows), _summary(rows))
    console.result({"layers": rows}, Group(*texts))


def row(name, kept):
    """What is known of a layer; `kept` are the records of the checks."""
    layer, op, kind = getattr(custom_layers, name), op_of(name), kind_of(name)
    stock = kind == "layer" and hasattr(keras.layers, name)
    return {
        "name": name,
        "kind": kind,
        "replaces": f"keras.layers.{name}" if stock else None,
        "what": layer.__doc__.splitlines()[0],
        "op": op.__name__,
        "module": op.__module__,
        **dict.fromkeys(IN_THE_LIST),
        **sections(op),
        "checked": last_check(name, kept),
    }


def _heading(shown):
    stock = ", replaces Keras's" if shown["replaces"] else ""
    return Text.assemble((shown["name"], "bold"), f"  {shown['kind']}, op {shown['op']}{stock}")


def _in_short(shown):
    """A line for each part: its first, cut where the terminal ends."""
    lines = [f"  checked   {describe(shown['checked'])}\n"]
    for part in reversed(IN_THE_LIST):
        first, *more = _lines(part, shown[part])
        lines.insert(0, f"  {part:8}  {first}{' ...' if more else ''}")
    return Group(_heading(shown), *(Text(t, no_wrap=True, overflow="ellipsis") for t in lines))


def _summary(rows):
    states = [_state(shown["checked"]) for shown in rows]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states))]
    return Text(f"{len(rows)} layers and losses: {', '.join(counts)}. `handgrad check [NAME]` "
                "checks; `handgrad layers NAME` shows one in full, with an example in numbers.")


def _state(checked):
    if checked is None:
        return "not checked"
    if checked["changed"]:
        return "changed since their check"
    return "ok" if checked["ok"] else "FAILED"


class _InFull:
    """All of a layer: the parts of its op's docstring, then its example."""

    def __init__(self, shown):
        self._shown = shown

    def __rich_console__(self, console, options):
        shown, width = self._shown, options.max_width
        others = [part for part in sections(op_of(shown["name"]))
                  if part not in ("summary", *IN_THE_LIST)]
        yield _heading(shown)
        yield Text(shown["summary"] + "\n")
        for part in (*FORMULAS, *others, "source"):
            yield Text("\n".join(_labelled(part, shown[part], width)))
        yield Text("\n".join(_labelled("checked", describe(shown["checked"]), width)) + "\n")
        yield Text("\n".join(_example(shown["example"], width)) + "\n")


def _lines(part, text):
    """A part of a docstring as lines to show: of formulas its own, of prose a paragraph each."""
    text = text or "-"
    if part not in FORMULAS:
        text = re.sub(r"\n +" if part == "notes" else r"\n *", " ", text)
    return text.splitlines()


def _labelled(part, text, width):
    """A part of a docstring, what is too long for the terminal broken."""
    lines = []
    for line in _lines(part, text):
        indent = " " * (len(line) - len(line.lstrip()) + 4) if part in FORMULAS else ""
        lines += textwrap.wrap(line, max(width - 12, 20), subsequent_indent=indent,
                               break_on_hyphens=False)
    return [f"  {label:8}  {line}" for label, line in zip([part] + [""] * len(lines), lines)]


def _example(example, width):
    forward = {**example["inputs"], **example["weights"], **example["outputs"]}
    backward = {**example["upstream"], **example["gradients"]}
    worst = example["largest_difference"]
    return [
        f"Example: {example['call']}",
        "(in float64; axes of size one are left out)",
        *_paragraph("forward", forward, width),
        *_paragraph("backward", backward, width),
        *_paragraph("by central differences, off by at most "
                    f"{worst:.0e}" if worst else "by central differences, the same",
                    example["differences"], width),
    ]


def _paragraph(title, arrays, width):
    return ["", f"  {title}", *(f"    {line}" for line in beside(grids(arrays), width - 4))]
