"""Holds the tensors of a file against those of a model, name by name and shape by shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.convert.records import StoredTensor
from models.convert.weight_file import WeightFile
from utils.errors import ModelError

SHOWN = 100


def load_matching(
    file: WeightFile,
    model: nn.Module,
    source: str,
    stored: Mapping[str, StoredTensor],
    names: Mapping[str, str],
    made: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Read the tensors of a model.

    Args:
        file: where they lie.
        model: on any device, also without memory.
        source: name of its YAML, for messages.
        stored: tensors of the file by the names that they have in it.
        names: name in the file of every tensor of the model, by its name there.
        made: tensors that follow from others of the file, by the names that they would have in it.

    Returns:
        The tensors by the model's names, of the model's types.

    Raises:
        ModelError: one is missing, too many, or of another shape; the sentence names it as the file does.
    """
    own, made = model.state_dict(), made or {}
    wanted = {names[name]: tuple(value.shape) for name, value in own.items()}
    given = {name: stored_tensor.shape for name, stored_tensor in stored.items()}
    require_matching(file.path, source, {**given, **{name: wanted[name] for name in made if name in wanted}}, wanted)
    read = {name: made[theirs] if (theirs := names[name]) in made else file.tensor(stored[theirs]) for name in own}
    return {name: value.to(own[name].dtype) for name, value in read.items()}


def require_matching(
    path: object,
    source: str,
    given: Mapping[str, tuple[int, ...] | None],
    wanted: Mapping[str, tuple[int, ...]],
) -> None:
    """Hold the names and shapes of a file's tensors against those of a model.

    Args:
        path: of the file.
        source: name of the model's YAML, for messages.
        given: shapes by name in the file.
        wanted: shapes by the names that the model's tensors have there.

    Raises:
        ModelError: one is missing, too many, or of another shape; the sentence names it.
    """
    missing = [f"{name:.{SHOWN}} is missing" for name in wanted if name not in given]
    unknown = [f"{name:.{SHOWN}} has no place in it" for name in given if name not in wanted]
    other = [
        f"{name:.{SHOWN}} has another shape ({shape_text(given[name])} there, {shape_text(shape)} here)"
        for name, shape in wanted.items()
        if name in given and given[name] != shape
    ]
    for found in (missing, unknown, other):
        if found:
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise ModelError(f"{path}: its tensors are not those of the model {source}: {found[0]}{more}")


def shape_text(shape: Sequence[int]) -> str:
    """Return such as ``64x3x7x7``, for messages."""
    return "x".join(str(side) for side in shape) or "one number"
