"""Rows of a model YAML as modules: each built from what its sources give, and the heads among them by name."""

from __future__ import annotations

import models.zoo_modules  # noqa: F401 - fills the registry
from models.heads.base import Head
from models.layers.activations import using_activation
from models.layers.per_head import split_norms
from models.registry import Built, lookup, option_names
from models.row_kinds import check_kinds
from models.row_options import check_block_options
from models.row_use import users_of_rows
from models.spec import PER_TASK, ModelSpec, RowSpec
from utils.errors import ModelError, did_you_mean

SYMBOLS = (
    "nc",
    "n_segcls",
    "nkpt",
    "anchors",
    "category_ids",
    "width",
    "heads",
    "det_tokens",
    "pe_size",
    "queries",
    "dim",
    "ffn",
    "dropout",
)


def build_rows(spec: ModelSpec) -> list[Built]:
    """Build every row's module on the current default device (parse_model).

    Raises:
        ModelError: a module is unknown or its arguments or inputs do not fit; the sentence names the row and the mend.
    """
    channels: dict[int, int] = {-1: spec.channels}
    built: list[Built] = []
    for row in spec.rows:
        try:
            block = lookup(row.module)
            for source in row.sources:
                if source >= 0 and isinstance(built[source].module, Head):
                    raise ValueError(f"it reads row {source}, which is a head; a head's output is not a feature map")
            inputs = [channels[source] for source in row.sources]
            check_kinds(block, row, inputs)
            check_block_options(row.args[-1] if row.args else None, option_names(block))
            with using_activation(row.options.activation):
                made = block.from_row(inputs, spec.scale.repeats(row.number), row.args, spec.scale)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ModelError(f"{spec.where(row)}: {error}{_symbol_hint(spec, row, str(error))}") from None
        row.options.norm.apply(made.module)
        channels[row.index] = made.out_channels
        built.append(made)
    if spec.values.get("bn") == PER_TASK:
        modules = split_norms([made.module for made in built], users_of_rows(spec, name_heads(spec, built)))
        return [Built(module, made.out_channels) for module, made in zip(modules, built, strict=True)]
    return built


def _symbol_hint(spec: ModelSpec, row: RowSpec, error: str) -> str:
    """Return a mend for an argument that reads like a key of the file but is none."""
    keys = [key for key in spec.values if isinstance(key, str)]
    for arg in row.args:
        if not isinstance(arg, str) or repr(arg) not in error:
            continue
        if arg in SYMBOLS:
            return f"; add the key '{arg}' to the file"
        if len(arg) > 2 and (near := did_you_mean(arg, keys)):
            return f", which is no key of the file.{near}"
    return ""


def name_heads(spec: ModelSpec, built: list[Built]) -> dict[str, int]:
    """Return the row index of every head by its output name: the row's own name, else the head's task.

    Raises:
        ModelError: there is no head, or two heads would have the same name.
    """
    heads: dict[str, int] = {}
    for row, made in zip(spec.rows, built, strict=True):
        if not isinstance(made.module, Head):
            continue
        name = row.name or made.module.task
        if name in heads:
            raise ModelError(
                f"{spec.where(row)}: row {heads[name]} is already the head '{name}'; give this one a name of its own "
                "as the row's fifth item"
            )
        heads[name] = row.index
    if not heads:
        raise ModelError(
            f"{spec.source}: no row is a head; end the file with one, such as [[17, 20, 23], 1, Detect, [nc, anchors]]"
        )
    return heads
