"""The cheapest set of results from which all that is needed can be computed: a minimum cut."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

_INFINITE = 2**30


def minimum_cut(sizes, made, needed):
    """The results to keep: a set of the least size from which all of `needed` can be made.

    Every result is a pipe as wide as its size. Water comes in where a result cannot be made from
    others, flows into a result from those it is made from, and out where it is needed. The
    narrowest cut through the pipes is what to keep; of several, the one nearest to the outflow,
    which leaves the least to be made.

    Args:
        sizes: {result: its size}.
        made: {result: the results it can be made from}; one that is not in it can only be kept.
        needed: the results that are needed.

    Source: Ford, Fulkerson, Maximal Flow through a Network, 1956; as a plan of what to keep:
        He, Yu, Transcending Runtime-Memory Tradeoffs in Checkpointing by being Fusion Aware,
        MLSys 2023.
    """
    number = {result: i for i, result in enumerate(sizes)}
    n, total = len(sizes), sum(sizes.values()) or 1
    source, sink = 2 * n, 2 * n + 1
    edges = {}
    for result, i in number.items():
        edges[i, n + i] = 1 + round(sizes[result] / total * 2**28)
        for x in made.get(result, ()):
            edges[n + number[x], i] = _INFINITE
        if not made.get(result):
            edges[source, i] = _INFINITE
        if result in needed:
            edges[n + i, sink] = _INFINITE
    rows, columns = zip(*edges)
    capacity = csr_matrix((np.array(list(edges.values()), np.int32), (rows, columns)),
                          shape=(2 * n + 2, 2 * n + 2))
    left = capacity - maximum_flow(capacity, source, sink).flow
    left.eliminate_zeros()
    reaches = set(breadth_first_order(left.T.tocsr(), sink, return_predecessors=False).tolist())
    return {result for result, i in number.items() if i not in reaches and n + i in reaches}
