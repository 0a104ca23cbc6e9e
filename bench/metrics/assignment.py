"""One-to-one assignment of true nuclei to predictions with the largest summed weight, over the pairs that overlap."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from bench.metrics.overlaps import starts

ROUNDS = 8
"""Number of times that certain pairs are looked for; a long chain of nuclei may have one at its end each time."""


def best_assignment(
    true: Int[np.ndarray, " pairs"], pred: Int[np.ndarray, " pairs"], weight: Float[np.ndarray, " pairs"]
) -> Int[np.ndarray, " chosen"]:
    """Return the pairs of the assignment whose summed weight is the largest.

    Few pairs are open: where a weight exceeds the sum of the largest other ones of its nucleus and its prediction, any
    assignment without that pair gains by taking it in place of the one or two in its way. So it is chosen, and what
    remains is looked at again. Clusters of pairs that stay open are solved by `scipy.optimize.linear_sum_assignment`:
    one dense matrix of a fragmented prediction would take gigabytes.

    Args:
        true: number of each pair's true nucleus, in ascending order.
        pred: number of each pair's prediction.
        weight: of each pair, above 0.
    """
    open_ = np.arange(len(true))
    chosen = [open_[:0]]
    for _ in range(ROUNDS):
        open_ = open_[_needed(true[open_], pred[open_], weight[open_])]
        certain = open_[_is_certain(true[open_], pred[open_], weight[open_])]
        if not len(certain):
            break
        chosen.append(certain)
        open_ = open_[~(_is_among(true[open_], true[certain]) | _is_among(pred[open_], pred[certain]))]
    return np.concatenate([*chosen, open_[solved_by_cluster(true[open_], pred[open_], weight[open_])]])


def solved_by_cluster(
    true: Int[np.ndarray, " pairs"], pred: Int[np.ndarray, " pairs"], weight: Float[np.ndarray, " pairs"]
) -> Int[np.ndarray, " chosen"]:
    """Return what `best_assignment` does, by solving each cluster of pairs that share nuclei or predictions."""
    if not len(true):
        return np.zeros(0, np.intp)
    n_true = int(true.max()) + 1
    nodes = n_true + int(pred.max()) + 1
    # Here, because most images come without them and a worker starts faster.
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((weight, (true, pred + n_true)), shape=(nodes, nodes))
    cluster = connected_components(graph, directed=False)[1][true]
    order, chosen = np.argsort(cluster, kind="stable"), []
    for pairs in np.split(order, starts(cluster[order])[1:]):
        row, column = (np.unique(ids[pairs], return_inverse=True)[1] for ids in (true, pred))
        matrix = np.zeros((row.max() + 1, column.max() + 1))
        matrix[row, column] = weight[pairs]
        rows, columns = linear_sum_assignment(matrix, maximize=True)
        partner = np.full(len(matrix), -1)
        partner[rows] = columns
        chosen.append(pairs[partner[row] == column])
    return np.concatenate(chosen)


def _needed(true: np.ndarray, pred: np.ndarray, weight: np.ndarray) -> Bool[np.ndarray, " pairs"]:
    """Return False for pairs of a nucleus with predictions that have no other pair, but for the best of them.

    Likewise for a prediction's pairs with nuclei that have no other pair. An assignment takes one of these at most.
    """
    needed = np.ones(len(true), bool)
    for centre, leaf in ((true, pred), (pred, true)):
        leaves = np.flatnonzero(np.bincount(leaf)[leaf] == 1)
        if len(leaves) < 2:
            continue
        order = leaves[np.lexsort((-weight[leaves], centre[leaves]))]
        repeated = np.append(False, centre[order][1:] == centre[order][:-1])
        needed[order[repeated]] = False
    return needed


def _is_certain(true: np.ndarray, pred: np.ndarray, weight: np.ndarray) -> Bool[np.ndarray, " pairs"]:
    """Return True for pairs that outweigh the next best of their nucleus and of their prediction taken together."""
    best, rest = np.ones(len(true), bool), np.zeros(len(true))
    for ids in (true, pred):
        largest = np.zeros(int(ids.max(initial=0)) + 1)
        np.maximum.at(largest, ids, weight)
        is_largest = weight == largest[ids]
        second = np.zeros(len(largest))
        np.maximum.at(second, ids, np.where(is_largest, 0.0, weight))
        # Two pairs that tie for the largest are in each other's way.
        second[np.bincount(ids[is_largest], minlength=len(largest)) > 1] = np.inf
        best &= is_largest
        rest += second[ids]
    return best & (weight > rest)


def _is_among(ids: np.ndarray, some: np.ndarray) -> Bool[np.ndarray, " ids"]:
    marked = np.zeros(int(ids.max(initial=0)) + 1, bool)
    marked[some] = True
    return marked[ids]
