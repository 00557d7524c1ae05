"""Holds the tensors of a file against those of a model, name by name and shape by shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from models.convert.records import StoredTensor
from models.convert.torch_file import TorchFile
from utils.errors import ModelError

SHOWN = 100


def load_matching(
    file: TorchFile, model: nn.Module, source: str, stored: Mapping[str, StoredTensor], names: Mapping[str, str]
) -> dict[str, Tensor]:
    """Read the tensors of a model.

    Args:
        file: where they lie.
        model: on any device, also without memory.
        source: name of its YAML, for messages.
        stored: tensors of the file by the names that they have in it.
        names: name in the file of every tensor of the model, by its name there.

    Returns:
        The tensors by the model's names, of the model's types.

    Raises:
        ModelError: one is missing, too many, or of another shape; the sentence names it as the file does.
    """
    own = model.state_dict()
    wanted = set(names.values())
    missing = [f"{names[name]:.{SHOWN}} is missing" for name in own if names[name] not in stored]
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
    return {name: file.tensor(stored[names[name]]).to(own[name].dtype) for name in own}


def _sides(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape) or "one number"
