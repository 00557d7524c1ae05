"""Learning-rate factors of single parameters: by the head that alone uses them, by their row, by their own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.graph import Graph
from models.row_use import parameter_factors
from utils.errors import ModelError, did_you_mean
from utils.training.named_rows import row_names, rows_named
from utils.training.tasks import head_values

OPTIONAL = "?"
"""At the end of a name in ``lr_names``: models without it are meant, too."""


def rate_factors(graph: Graph, hyp: Mapping[str, Any]) -> dict[str, float]:
    """Return by what the learning rate of every parameter is multiplied, by the parameter's name.

    Args:
        graph: the model.
        hyp: the recipe, of which ``lr_factors`` (by head) and ``lr_names`` (by row or by a part of parameters' names)
            are read. Factors that meet in one parameter are multiplied. A name that ends in ``?`` may be missing.

    Returns:
        Parameters whose factor is 1 are left out.

    Raises:
        ModelError: a key names what the model does not have.
    """
    factors = dict.fromkeys(_parameter_names(graph), 1.0)
    by_head = parameter_factors(graph, head_values(graph, hyp["lr_factors"], "lr_factors"))
    named = _named_rates(graph, hyp)
    for chosen in (by_head, *(dict.fromkeys(found, factor) for found, factor in named.values())):
        for name, factor in chosen.items():
            factors[name] *= factor
    return {name: factor for name, factor in factors.items() if factor != 1}


def parameters_named(graph: Graph, entry: str) -> list[str]:
    """Return the parameters that one key of ``lr_names`` stands for.

    Args:
        graph: the model.
        entry: rows, as ``rows_named`` knows them, which stand for all that they hold; or one or several parts, between
            two dots, of parameters' names: ``sampling_offsets``, ``self_attn.value_proj``.

    Raises:
        ModelError: there is nothing of that name; or rows of that name without parameters.
    """
    names = _parameter_names(graph)
    try:
        rows = rows_named(graph, entry)
    except ValueError as error:
        raise ModelError(f"recipe key 'lr_names' names '{entry}': {error}") from None
    if rows is None:
        found = [name for name in names if f".{entry}." in f".{_within_row(name)}."]
    else:
        found = [name for name in names if int(name.split(".")[1]) in rows]
    if not found and rows is not None:
        raise ModelError(f"recipe key 'lr_names' names '{entry}', rows of {graph.spec.source} without parameters")
    if not found:
        known = {*row_names(graph), *(part for name in names for part in _within_row(name).split("."))}
        near = did_you_mean(entry, known)
        raise ModelError(
            f"recipe key 'lr_names' names '{entry}', which is neither a row of {graph.spec.source} nor a part of a "
            f"parameter's name there; mend it or leave it out.{near}"
        )
    return found


def _named_rates(graph: Graph, hyp: Mapping[str, Any]) -> dict[str, tuple[list[str], float]]:
    """Return what each key of ``lr_names`` stands for and its factor, without keys that may be missing and are."""
    found = {}
    for key, factor in hyp["lr_names"].items():
        entry = str(key).removesuffix(OPTIONAL)
        if entry != str(key) and not _is_there(graph, entry):
            continue
        found[entry] = parameters_named(graph, entry), factor
    return found


def _is_there(graph: Graph, entry: str) -> bool:
    try:
        return bool(parameters_named(graph, entry))
    except ModelError:
        return False


def _parameter_names(graph: Graph) -> list[str]:
    return [name for name, _ in graph.named_parameters()]


def _within_row(name: str) -> str:
    """Return a parameter's name without that of its row, ``model.N``."""
    return name.split(".", 2)[2]


def describe_rates(graph: Graph, hyp: Mapping[str, Any]) -> str:
    """Return in words what learning rates the keys of ``lr_names`` lead to after the warm-up; empty without any."""
    rates = (f"{entry} {hyp['lr0'] * factor:.3g}" for entry, (_, factor) in _named_rates(graph, hyp).items())
    return ", ".join(rates)
