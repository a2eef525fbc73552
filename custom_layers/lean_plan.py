"""What lean training keeps of a model, and what it computes again."""

import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby

import tensorflow as tf

from custom_layers.lean_again import Again
from custom_layers.lean_cut import minimum_cut
from custom_layers.lean_graph import Link, Stock
from custom_layers.lean_pooling import MaxPool
from custom_layers.lean_storage import Float32, elements, storage


WINNERS_FROM = 200  # multiply-adds a result of the convolution in front


@dataclass(eq=False)
class Segment:
    """Links that run as one op: its places from outside, those read outside, those kept.

    `weights` are the variables of the links, each once with the dtype it is read in.
    """

    links: list
    inputs: list
    outputs: list
    kept: set = field(default_factory=set)  # ids of places

    def __post_init__(self):
        self.producer = {id(link.output): link for link in self.links}
        self.index = {link: i for i, link in enumerate(self.links)}
        self.users = defaultdict(list)  # by place: the links that read it
        weights = {}
        for link in self.links:
            for place in link.inputs:
                self.users[id(place)].append(link)
            dtype = getattr(link.layer, "compute_dtype", None)
            dtype = dtype if getattr(link.layer, "autocast", True) else None
            weights.update({(id(w), dtype): (w, dtype) for w in link.kind.weights})
            link.weights = [(id(w), dtype) for w in link.kind.weights]
        self.weights, self.keys = list(weights.values()), list(weights)

    def shown(self, place):
        """The place whose bytes a view shows; itself where it is none."""
        link = self.producer.get(id(place))
        return self.shown(link.inputs[0]) if link is not None and link.kind.view else place

    def sources(self, link):
        """What running a link again reads. Of concatenations of concatenations, the pieces."""
        if link.kind.concatenates is None:
            return link.inputs
        pieces = []
        for place in link.inputs:
            inner = self.producer.get(id(place))
            same = inner is not None and inner.kind.concatenates == link.kind.concatenates
            pieces += self.sources(inner) if same else [place]
        return pieces


def segments_of(graph):
    """The steps with each run of links made one segment for every set of outputs it leads to.

    So what leads to an output without a loss alone has no gradient, as in stock Keras. A gradient
    of zero is another thing: it lets an optimizer's weight decay move the weights.
    """
    leads_to, found = _outputs_behind(graph), []
    for linked, run in groupby(graph.steps, lambda step: isinstance(step, Link)):
        if not linked:
            found += run
            continue
        groups = {}
        for link in run:
            groups.setdefault(leads_to[link], []).append(link)
        # A link leads to all that its successors lead to: more outputs come first.
        found += sorted(groups.values(), key=lambda links: -len(leads_to[links[0]]))
    consumers = graph.consumers()
    outside = {id(x) for x in graph.outputs} | {id(place) for place, _ in graph.watched}
    return [step if isinstance(step, Stock) else _segment(step, consumers, outside)
            for step in found]


def _outputs_behind(graph):
    """{step: the ids of the model's outputs that depend on it}"""
    outputs, behind, found = set(map(id, graph.outputs)), {}, {}
    for step in reversed(graph.steps):
        made = step.outputs if isinstance(step, Stock) else [step.output]
        keys = set(map(id, made))
        found[step] = frozenset(keys & outputs).union(*(behind.get(key, ()) for key in keys))
        for place in step.inputs:
            behind[id(place)] = behind.get(id(place), frozenset()) | found[step]
    return found


def _segment(links, consumers, outside):
    members, made = set(map(id, links)), {id(link.output) for link in links}
    inputs, outputs = {}, []
    for link in links:
        inputs.update({id(x): x for x in link.inputs if id(x) not in made})
        users = consumers.get(id(link.output), [])
        if id(link.output) in outside or any(id(user) not in members for user in users):
            outputs.append(link.output)
    return Segment(links, list(inputs.values()), outputs)


def _choose_winners(segment, compact, memory):
    """Max pooling keeps its winners where nothing else would keep, or bring back, its input.

    Behind a convolution of few products a result, finding them would take a sixth of the step's
    time (LeNet-5): there the input is kept, as stock does, unless `memory` goes before time.
    """
    for link in segment.links:
        if isinstance(link.kind, MaxPool):
            worth = memory or _products(segment, link) >= WINNERS_FROM
            link.kind.keep_winners = worth and not _comes_back(segment, link)
            link.kind.compact = compact


def _products(segment, link):
    """The multiply-adds a result of the convolution whose map a link pools; infinite for none."""
    while link is not None and len(link.inputs) == 1:
        link = segment.producer.get(id(link.inputs[0]))
        if link is not None and _work(link):
            return _work(link) / elements(link.output.shape)
    return float("inf")


def _comes_back(segment, link):
    """Whether the input of a pooling link is there in the backward pass anyway.

    It is where somebody else reads it, or what it is computed from by cheap links.
    """
    while True:
        (place,) = link.inputs
        if any(user is not link and user.reads(place) for user in segment.users[id(place)]):
            return True
        link = segment.producer.get(id(place))
        if link is None or "y" in link.kind.reads:
            return True
        if not link.kind.cheap or len(link.inputs) > 1:
            return False
        if "x" in link.kind.reads:
            return True


@dataclass(frozen=True)
class Row:
    """A layer's line of the plan: bytes a sample that stock keeps, and that are kept here.

    `how` says what becomes of its results (convolution, bias and activation are three): "kept",
    computed "again", its "winners" kept, or "" where no backward pass reads them.
    """

    layer: str
    type: str
    stock: float
    kept: float
    how: str


class Plan:
    """What is kept of each layer's results, and what is computed again. Prints as a table.

    Sizes are estimates in bytes a sample (an unknown image size counts as 64); `memory_report`
    measures them.

    Attributes:
        rows: a `Row` for each layer.
        stock: the names of the layers that run as stock.
        stock_bytes, kept_bytes: the sums over the layers that do not.
        more_work: the multiply-adds of what dear results are computed again, as a fraction of
            those of the forward pass.
    """

    def __init__(self, steps, save, budget=None):
        self.save, self.budget = save, budget
        self.segments = [step for step in steps if not isinstance(step, Stock)]
        self.stock = [step.name for step in steps if isinstance(step, Stock)]
        links = [link for segment in self.segments for link in segment.links]
        for segment in self.segments:
            _choose_winners(segment, not save.exact, memory=not save.exact or budget is not None)
            segment.kept = self._cut(segment, ())
        self.stock_bytes = sum(map(_stock_bytes, self.segments))
        self.again = set()
        if budget is not None:
            self._keep_to(budget * self.stock_bytes)
        again = [link for segment in self.segments for link in _run_again(segment)]
        self.more_work = sum(map(_work, again)) / (sum(map(_work, links)) or 1)
        self.rows = list(self._rows(set(again)))

    @property
    def kept_bytes(self):
        return sum(map(self._kept, self.segments))

    def _cut(self, segment, again):
        given = set(map(id, segment.inputs))
        places = [*segment.inputs, *(link.output for link in segment.links)]
        sizes = {id(p): 0 if id(p) in given else self._size(p) for p in places}
        made = {id(link.output): [id(x) for x in segment.sources(link)] for link in segment.links
                if link.kind.cheap or link in again}
        return minimum_cut(sizes, made, set(_needs(segment))) - given

    def _keep_to(self, limit):
        """Gives up dear results, those of the least work a byte first, until the rest fits."""
        while self.kept_bytes > limit:
            best = min((self._price(segment, place) for segment in self.segments
                        for place in segment.kept), key=lambda price: price[0], default=None)
            if best is None or best[0] == float("inf"):
                warnings.warn(
                    f"The least that can be kept is {self.kept_bytes / self.stock_bytes:.2f} of "
                    f"stock's bytes. Received: budget={self.budget}", stacklevel=6)
                return
            _, segment, links = best
            self.again.update(links)
            segment.kept = self._cut(segment, self.again)

    def _price(self, segment, place):
        """(work a byte, segment, links): what has to run again if a place is not kept.

        Who won is kept at any price: of rounded values others might have.
        """
        link = segment.producer[place]
        links = [x for x in _behind(segment, [link], set()) if not x.kind.cheap]
        given_up = set(links) - self.again and tf.as_dtype(link.output.dtype).is_floating
        size = self._size(link.output) if given_up else 0
        return (sum(map(_work, links)) / size if size else float("inf")), segment, links

    def _size(self, place):
        return storage(self.save, place.dtype).bytes(place.shape, _itemsize(place))

    def _kept(self, segment):
        return sum(self._size(link.output) * (id(link.output) in segment.kept)
                   + _winners(link) for link in segment.links)

    def _rows(self, again):
        by_layer = {}
        for segment in self.segments:
            stock = _needs(segment, stock=True)
            for link in segment.links:
                row = by_layer.setdefault(link.name, [type(link.layer).__name__, 0, 0, []])
                kept = id(link.output) in segment.kept
                row[1] += _bytes(link.output) * (id(link.output) in stock)
                row[1] += elements(link.output.shape) * link.kind.stock_bytes
                row[2] += self._size(link.output) * kept + _winners(link)
                row[3] += ["kept"] * kept + ["winners"] * bool(_winners(link))
                row[3] += ["again"] * (link in again)
        for name, (kind, stock, kept, how) in by_layer.items():
            yield Row(name, kind, stock, kept, ", ".join(dict.fromkeys(how)))

    def __str__(self):
        table = [("layer", "type", "stock", "lean", "result")]
        table += [(r.layer, r.type, _shown(r.stock), _shown(r.kept), r.how) for r in self.rows]
        table.append(("all", "", _shown(self.stock_bytes), _shown(self.kept_bytes), ""))
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = ["  ".join(
            (c.rjust if 2 <= i <= 3 else c.ljust)(w) for i, (c, w) in enumerate(zip(row, widths))
        ).rstrip() for row in table]
        lines.append(
            f"Bytes a sample, estimated. Kept as {self.save.name}: "
            f"{self.kept_bytes / (self.stock_bytes or 1):.2f} of stock's, for "
            f"{self.more_work:.0%} more multiply-adds in the forward pass.")
        if self.stock:
            lines.append("As stock: " + ", ".join(self.stock))
        return "\n".join(lines)


def _needs(segment, stock=False):
    """The places that the backward passes read, by id. Stock's keep no view, but what it shows."""
    found = []
    for link in segment.links:
        found += [x for x in link.read_inputs(stock) if x is not None]
        if "y" in (link.kind.stock if stock else link.kind.reads):
            found.append(link.output)
    return {id(x): x for x in (map(segment.shown, found) if stock else found)}


def _behind(segment, links, found):
    """`links` and those that run again with them, back to what is kept or given."""
    for link in links:
        if link not in found:
            found.add(link)
            _behind(segment, [segment.producer[id(x)] for x in segment.sources(link)
                              if id(x) in segment.producer and id(x) not in segment.kept], found)
    return found


def _run_again(segment):
    """The links that run again in the backward pass, one twice where it runs twice."""
    again = Again(segment, dict.fromkeys(segment.kept | set(map(id, segment.inputs))))
    for link in reversed(segment.links):
        again.read(link, ())
    return again.runs


def _stock_bytes(segment):
    needed = _needs(segment, stock=True)
    return sum(_bytes(link.output) * (id(link.output) in needed)
               + elements(link.output.shape) * link.kind.stock_bytes for link in segment.links)


def _winners(link):
    """Bytes of the winners that a link keeps: one a window, or one an element of what it pools."""
    if not isinstance(link.kind, MaxPool) or not link.kind.keep_winners:
        return 0
    return elements((link.output if link.kind.compact else link.inputs[0]).shape)


def _bytes(place):
    return Float32().bytes(place.shape, _itemsize(place))


def _itemsize(place):
    return tf.as_dtype(place.dtype).size


def _work(link):
    """The multiply-adds of a convolution or a product, a sample."""
    if not link.kind.weights or len(link.kind.weights[0].shape) < 2:
        return 0
    kernel = 1
    for n in link.kind.weights[0].shape:
        kernel *= n
    channels = link.output.shape[-1] or 1
    places = min(elements(link.inputs[0].shape) / (link.inputs[0].shape[-1] or 1),
                 elements(link.output.shape) / channels)
    return kernel * places


def work_an_input(link):
    """The multiply-adds of a convolution or a product for each element that it reads."""
    return _work(link) / (elements(link.inputs[0].shape) or 1)


def _shown(size):
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.2f} {unit}"
    return f"{size:.0f} B"
