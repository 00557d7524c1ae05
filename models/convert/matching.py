"""Holds the tensors of a file against those of a model, name by name and shape by shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.convert.records import StoredTensor
from models.convert.torch_file import TorchFile
from utils.errors import ModelError

SHOWN = 100


def load_matching(
    file: TorchFile,
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
    wanted, given = set(names.values()), {*stored, *made}
    missing = [f"{names[name]:.{SHOWN}} is missing" for name in own if names[name] not in given]
    unknown = [f"{name:.{SHOWN}} has no place in it" for name in stored if name not in wanted]
    pairs = [(names[name], value.shape) for name, value in own.items() if names[name] in stored]
    other = [
        f"{name:.{SHOWN}} has another shape ({_sides(stored[name].shape)} there, {_sides(shape)} here)"
        for name, shape in pairs
        if stored[name].shape != tuple(shape)
    ]
    for found in (missing, unknown, other):
        if found:
            more = f", and {len(found) - 1} more" if len(found) > 1 else ""
            raise ModelError(f"{file.path}: its tensors are not those of the model {source}: {found[0]}{more}")
    read = {name: made[theirs] if (theirs := names[name]) in made else file.tensor(stored[theirs]) for name in own}
    return {name: value.to(own[name].dtype) for name, value in read.items()}


def _sides(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape) or "one number"
