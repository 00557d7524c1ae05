"""Which recipe keys a search changes, and within which limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from models.graph import Graph
from utils.errors import UsageError, did_you_mean
from utils.recipe_keys import heads_of_the_house
from utils.recipe_ranges import HEAD_GAIN, RANGES, Range
from utils.training.tasks import head_values

GAINS = "gains."
KEYS_OF_HEADS = frozenset(key for head in heads_of_the_house() for key in head.recipe)


class SearchKey(NamedTuple):
    """A number of the recipe that a search changes.

    Attributes:
        name: the recipe key, or ``gains.HEAD``.
        start: its value in the given recipe, within the limits.
        low: least value.
        high: greatest value.
        log: whether equal factors count as equal steps.
    """

    name: str
    start: float
    low: float
    high: float
    log: bool


def search_space(hyp: Mapping[str, Any], graph: Graph, asked: Sequence[str] = ()) -> list[SearchKey]:
    """Return the keys to search.

    Args:
        hyp: the given recipe, whole.
        graph: the model; a key is left out where none of its heads can feel it.
        asked: names of keys to search; empty for the usual ones.

    Raises:
        UsageError: a name is no searchable key, or has no effect with this model and recipe.
    """
    gains = head_values(graph, hyp["gains"], "gains")
    known = {name: (found, float(hyp[name])) for name, found in RANGES.items() if name in hyp}
    if len(gains) > 1:
        known |= {GAINS + head: (HEAD_GAIN, value) for head, value in gains.items()}
    for name in asked:
        if name not in known:
            raise UsageError(f"--evolve-keys {name}: there is no such key to search.{did_you_mean(name, known)}")
        reason = _why_without_effect(name, known[name][0], hyp, graph)
        if reason:
            raise UsageError(f"--evolve-keys {name}: has no effect here, {reason}; leave it out")
    names = list(dict.fromkeys(asked)) or [
        name for name, (found, _) in known.items() if found.usual and not _why_without_effect(name, found, hyp, graph)
    ]
    return [_key(name, *known[name]) for name in names]


def _why_without_effect(name: str, found: Range, hyp: Mapping[str, Any], graph: Graph) -> str:
    if name in KEYS_OF_HEADS and not any(name in head.recipe for head in graph.heads.values()):
        return "no head of the model has this key"
    if found.needs and not any(found.needs in head.targets for head in graph.heads.values()):
        return f"no head of the model learns {found.needs}"
    if found.only_if is not None and hyp[found.only_if[0]] not in found.only_if[1]:
        return f"{found.only_if[0]} is {hyp[found.only_if[0]]}"
    return ""


def _key(name: str, found: Range, start: float) -> SearchKey:
    """Return a key whose limits are widened to the given recipe's value, which is the first one to be tried."""
    if start <= 0 and found.log:
        return SearchKey(name, start, start, found.high, False)
    return SearchKey(name, start, min(found.low, start), max(found.high, start), found.log)


def recipe_with(hyp: Mapping[str, Any], values: Mapping[str, float]) -> dict[str, Any]:
    """Return a recipe with other values for searched keys; the given one stays as it is."""
    gains = {name.removeprefix(GAINS): value for name, value in values.items() if name.startswith(GAINS)}
    changed = {**hyp, **{name: value for name, value in values.items() if not name.startswith(GAINS)}}
    if gains:
        changed["gains"] = {**hyp["gains"], **gains}
    return changed
