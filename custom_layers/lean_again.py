"""What a segment's backward pass computes again: in which order, and how long that is held."""

from custom_layers.lean_links import Pair


class Again:
    """The places of a segment in its backward pass: there, stored in fewer bits, or run again.

    What is run again for one link is held for the next ones that read it. But what nobody reads
    before another convolution's backward pass is handed on and let go, and run once more when
    its turn comes: else all maps of a residual stage would be held from the stage's end on. What
    needs two convolutions or more is held, so that none runs more than twice for it.

    Here places have no values, only `runs` is kept, the links that run, one after the other.
    """

    def __init__(self, segment, there, stored=()):
        """`there`: {id: value} of places that need no work; `stored`: ids of those to decode."""
        self.segment, self.stored, self.runs = segment, stored, []
        self.known = {key: (value, None) for key, value in there.items()}  # None: did not wait

    def read(self, link, after):
        """What a link's backward pass reads: each of its inputs, and its output, or None."""
        self.at = self.segment.index[link]
        # What an op computes of x alone would be computed, and kept, at once.
        get = self._source if link.kind.cheap and isinstance(link.kind, Pair) else self._get
        xs = [None if place is None else get(place, after) for place in link.read_inputs()]
        return xs, self._get(link.output, after) if "y" in link.kind.reads else None

    def run(self, link, xs, after):
        self.runs.append(link)

    def decode(self, place, after):
        pass

    def wait(self, value, after):
        pass

    def _get(self, place, after):
        return self._find(place, after, hold=True)[0]

    def _source(self, place, after):
        """The value of a place as one to compute from, which is not to be had before `after`.

        Without that a graph would merge what is computed again with its original, and keep it,
        or compute again all at once what hangs on a place that was computed again before.
        """
        value, waited = self._find(place, after, hold=False)
        return value if waited is after else self.wait(value, after)

    def _find(self, place, after, hold):
        """The value of a place, and what it waited for."""
        key = id(place)
        if key in self.known:
            return self.known[key]
        if key in self.stored:
            value = self.decode(place, after)
        else:
            link = self.segment.producer[key]
            value = self.run(link, self._sources(link, after), after)
        if hold or self._is_held(place):
            self.known[key] = value, after
        return value, after

    def _sources(self, link, after):
        """What a link reads to run again, one computed after the other, so that little is held."""
        values = []
        for place in self.segment.sources(link):
            there = id(place) in self.known
            values.append(self._source(place, after))
            after = after if there else values[-1:]
        return values

    def _is_held(self, place):
        link, users = self.segment.producer[id(place)], self.segment.users[id(place)]
        if len(users) != 1 or self._convolutions(place) > 1:
            return True
        readers = [users[0].reads(place) and users[0], "y" in link.kind.reads and link]
        reader = next(filter(None, readers), None)
        return reader is not None and all(
            between.kind.cheap
            for between in self.segment.links[self.segment.index[reader] + 1:self.at])

    def _convolutions(self, place):
        """How many dear links run for a place, back to those that are there or held."""
        key = id(place)
        if key in self.known or key in self.stored:
            return 0
        link = self.segment.producer[key]
        return (not link.kind.cheap) + sum(map(self._convolutions, self.segment.sources(link)))
