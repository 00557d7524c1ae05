"""One-to-many assignment of one picture, one query and one object after the other, in plain Python."""

from __future__ import annotations

Pairs = list[tuple[int, int]]


def assign_slowly(
    scores: list[list[float]], k: int, threshold: float, order: list[float] | None = None, most: int | None = None
) -> tuple[Pairs, dict[int, int]]:
    """Return the pairs (query, object) and the object whose class each query learns.

    Args:
        scores: of every query with every object.
        k: most queries of an object.
        threshold: least score of a positive query.
        order: by which positive queries stay, where there are more than ``most``.
        most: positive queries.
    """
    queries, objects = range(len(scores)), range(len(scores[0]) if scores else 0)
    if not objects:
        return [], {}
    favourite = {q: max(objects, key=lambda t: scores[q][t]) for q in queries}
    positive = {q for q in queries if scores[q][favourite[q]] >= threshold}
    for t in objects:
        positive.add(max(queries, key=lambda q: scores[q][t]))
    if most is not None:
        positive = set(sorted(positive, key=lambda q: order[q])[:most])
    pairs: Pairs = []
    for t in objects:
        count = sum(favourite[q] == t for q in positive)
        best = sorted(queries, key=lambda q: -scores[q][t])[:k]
        pairs += [(q, t) for q in best[: min(count, k)]]
    pairs.sort(key=lambda pair: scores[pair[0]][pair[1]])
    # The last one, which has the highest score, stays.
    return pairs, dict(pairs)


def merge_slowly(owner: dict[int, int], one_to_one: Pairs) -> dict[int, int]:
    """Return the owners where one-to-one pairs come first, and are written over."""
    return dict(one_to_one) | owner
