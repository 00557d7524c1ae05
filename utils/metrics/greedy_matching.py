"""Which label each prediction gets, at all overlaps and for all sizes of objects at once: the matching of COCO.

In an image and class, predictions choose in order of descending confidence. Each takes the free label that it agrees
with most; one that counts goes before any that does not, and a crowd is never used up. Whether a label counts depends
on the range of areas that is asked for, and which labels are free on the overlap too, so the published program repeats
the choice for each combination. Here a combination is a bit: one 64-bit word says of a label in which of them it is
taken, and all images and classes take a step together.

Shape suffixes: n predictions, m labels, p pairs, A ranges of areas, T overlaps; combination a * T + t is bit a * T + t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from utils.metrics.pairs import Pairs

MOST_COMBINATIONS = 64
_EVERY = np.uint64(0xFFFFFFFFFFFFFFFF)


class Matches(NamedTuple):
    """What predictions got, a bit for each combination of area range and overlap.

    Attributes:
        matched: (n,) uint64, where a prediction got a label.
        uncounted: (n,) uint64, where that label does not count; then the prediction counts neither way.
    """

    matched: np.ndarray
    uncounted: np.ndarray


def match_greedily(
    pairs: Pairs, groups: np.ndarray, counts: np.ndarray, crowd: np.ndarray, thresholds: np.ndarray
) -> Matches:
    """Let the predictions of all groups choose their labels.

    Args:
        pairs: candidates; predictions are numbered in the order in which they choose within their group.
        groups: (n,) group of each prediction, such as its image and class; those of a group stand together.
        counts: (m, A) bool, whether a label counts in each range of areas.
        crowd: (m,) bool, labels that any number of predictions may have.
        thresholds: (T,) least overlaps, ascending.

    Raises:
        ValueError: there are more than 64 combinations of ranges and overlaps.
    """
    ranges, overlaps = counts.shape[1], len(thresholds)
    if ranges * overlaps > MOST_COMBINATIONS:
        raise ValueError(f"{ranges} ranges of areas and {overlaps} overlaps make more than {MOST_COMBINATIONS} bits")
    chances = _chances(pairs, *_masks(pairs, counts, thresholds))
    steps = _steps(groups[chances.prediction])
    order = np.argsort(steps.astype(np.uint16) if len(steps) and steps.max() < 1 << 16 else steps, kind="stable")
    prediction, label, mask, counted = (values[order] for values in chances)
    matched, uncounted = np.zeros((2, len(groups)), np.uint64)
    # A crowd blocks nobody, whoever has it.
    blocks = np.where(crowd, np.uint64(0), _EVERY)
    taken = np.zeros(len(crowd), np.uint64)
    ends = np.cumsum(np.bincount(steps))
    for low, high in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=False):
        # In a step every group has one chance at most, so no label and no prediction occurs twice.
        own, wanted = prediction[low:high], label[low:high]
        got = mask[low:high] & ~matched[own] & ~(taken[wanted] & blocks[wanted])
        taken[wanted] |= got
        matched[own] |= got
        uncounted[own] |= np.where(counted[low:high], np.uint64(0), got)
    return Matches(matched, uncounted)


class _Chances(NamedTuple):
    """Who may take what, in order: every pair once where its label counts, and once where it does not.

    Attributes:
        prediction: (q,) indices.
        label: (q,) indices.
        mask: (q,) uint64, the combinations in which it may.
        counted: (q,) bool, whether these are those in which the label counts.
    """

    prediction: np.ndarray
    label: np.ndarray
    mask: np.ndarray
    counted: np.ndarray


def _masks(pairs: Pairs, counts: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (p,) combinations in which a pair reaches the overlap, and (p,) those in which its label counts."""
    ranges, overlaps = counts.shape[1], len(thresholds)
    # The published program lets an overlap of 1 pass at any threshold in spite of rounding.
    reached = np.searchsorted(np.minimum(thresholds, 1 - 1e-10), pairs.overlap, side="right").astype(np.uint64)
    low = (np.uint64(1) << reached) - np.uint64(1)
    in_each = sum(1 << (a * overlaps) for a in range(ranges))
    of_range = np.array([((1 << overlaps) - 1) << (a * overlaps) for a in range(ranges)], np.uint64)
    of_label = np.where(counts, of_range, np.uint64(0)).sum(1, dtype=np.uint64)
    return low * np.uint64(in_each), of_label[pairs.label]


def _chances(pairs: Pairs, reached: np.ndarray, counts: np.ndarray) -> _Chances:
    """Put pairs in the order in which they are tried; of equal overlaps the later label goes first."""
    order = np.lexsort((-pairs.label, -pairs.overlap, pairs.prediction))
    prediction, label, reached, counts = (values[order] for values in (pairs.prediction, pairs.label, reached, counts))
    _, starts, lengths = np.unique(prediction, return_index=True, return_counts=True)
    # A prediction's pairs stand twice in a row: first all where labels count, then all where they do not.
    first = np.arange(len(prediction)) + np.repeat(starts, lengths)
    slots = np.concatenate((first, first + np.repeat(lengths, lengths)))
    chances = [np.concatenate((prediction, prediction)), np.concatenate((label, label))]
    chances += [np.concatenate((reached & counts, reached & ~counts)), np.repeat((True, False), len(prediction))]
    in_order = np.empty(len(slots), np.int64)
    in_order[slots] = np.arange(len(slots))
    in_order = in_order[chances[2][in_order] != 0]
    return _Chances(*(values[in_order] for values in chances))


def _steps(groups: np.ndarray) -> np.ndarray:
    """Return the place, from 0, of every entry within its group; equal groups stand together."""
    if not len(groups):
        return np.zeros(0, np.int64)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(groups)) + 1))
    lengths = np.diff(np.concatenate((starts, [len(groups)])))
    return np.arange(len(groups)) - np.repeat(starts, lengths)
