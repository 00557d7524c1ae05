"""Our checkpoint: one ``.safetensors`` file, tensors plus plain values as JSON in its header. Loading executes nothing.

``python -m models.checkpoint info FILE`` says what is in a file, ours or official.

Tensor names: ``model/NAME``, ``ema/NAME``, ``optimizer/KEY/NAME``, ``criterion/HEAD/NAME``, ``balance/NAME``,
``update/NAME``, ``meter/HEAD``, ``image_weights/HEAD/PASS``, ``rng/RANK/GENERATOR``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from data.keypoints import KeypointSpec
from utils.errors import ModelError, RunError
from utils.files import atomic_write

FORMAT_VERSION = 1
HEADER_KEY = "yolograph"
HEADER_KINDS = {"source": str, "graph": str, "names": dict, "progress": dict}
KEYPOINTS_KEY = "keypoints"
"""Of the header; files of models without keypoints, and those of older versions, do not have it."""
DEPLOYED_KEY = "deployed"
"""Of the header; only files of deployed models have it."""
REASON_SHOWN = 200


@dataclass
class Checkpoint:
    """A model, and for a run that can go on everything else it needs.

    Attributes:
        source: name of the model YAML.
        graph_yaml: the model's YAML text.
        names: class names of every head.
        tensors: groups of tensors by group name, see the file's first lines.
        progress: plain values: epoch, best fitness, recipe, options ...
        keypoints: what the keypoints are of every head that has some.
        is_deployed: whether the weights are those of the form for deployment, see ``models.fusing.deploy_graph``; such
            a model can only run.
        is_start: whether it is only a start for training, because the network it comes from has but a part of the
            model. It is never saved as such.
    """

    source: str
    graph_yaml: str
    names: dict[str, list[str]]
    tensors: dict[str, dict[str, Tensor]]
    progress: dict[str, Any] = field(default_factory=dict)
    keypoints: dict[str, KeypointSpec] = field(default_factory=dict)
    is_deployed: bool = False
    is_start: bool = False

    @property
    def weights(self) -> dict[str, Tensor]:
        """The averaged weights where the file has them, else the plain ones."""
        return self.tensors.get("ema") or self.tensors["model"]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file is either the old one or the new one, never a part.

    Raises:
        RunError: a weight is not finite, so the file on disk is kept as it is.
    """
    _require_finite(path, checkpoint)
    atomic_write(path, checkpoint_bytes(checkpoint))


def _require_finite(path: Path, checkpoint: Checkpoint) -> None:
    for group in ("model", "ema"):
        tensors = {n: t for n, t in checkpoint.tensors.get(group, {}).items() if t.is_floating_point()}
        bad = next((name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()), None)
        if bad is not None:
            raise RunError(
                f"{path}: not saved, because the weight {bad} is not finite; lower lr0 or the gains and resume"
            )


def checkpoint_bytes(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint as its file has it."""
    header = {
        "format": FORMAT_VERSION,
        "source": checkpoint.source,
        "graph": checkpoint.graph_yaml,
        "names": checkpoint.names,
        "progress": checkpoint.progress,
    }
    if checkpoint.is_deployed:
        header[DEPLOYED_KEY] = True
    if checkpoint.keypoints:
        header[KEYPOINTS_KEY] = {name: keypoints.to_plain() for name, keypoints in checkpoint.keypoints.items()}
    flat = {
        f"{group}/{name}": tensor.detach().cpu().contiguous().clone()
        for group, tensors in checkpoint.tensors.items()
        for name, tensor in tensors.items()
    }
    return save(flat, metadata={HEADER_KEY: json.dumps(header)})


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        ModelError: the file is missing, damaged, or not one of ours.
    """
    header, flat = _read(Path(path), with_tensors=True)
    tensors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        group, _, rest = name.partition("/")
        tensors.setdefault(group, {})[rest] = tensor
    if not tensors.get("ema") and not tensors.get("model"):
        raise ModelError(f"{path}: holds no weights; copy the file again")
    return Checkpoint(
        source=header["source"],
        graph_yaml=header["graph"],
        names=header["names"],
        tensors=tensors,
        progress=header["progress"],
        keypoints=_read_keypoints(header, path),
        is_deployed=header.get(DEPLOYED_KEY) is True,
    )


def is_checkpoint(path: str | Path) -> bool:
    """Return whether a safetensors file has our header; a damaged one counts as ours, so that reading it says so."""
    try:
        with safe_open(path, framework="pt") as file:
            return HEADER_KEY in (file.metadata() or {}) or not list(file.keys())
    except (SafetensorError, ValueError, OSError, RecursionError):
        return True


def read_header(path: str | Path) -> dict[str, Any]:
    """Read the plain values of a checkpoint without its tensors: source, graph, names, progress, keypoints.

    Raises:
        ModelError: the file is missing, damaged, or not one of ours.
    """
    return _read(Path(path), with_tensors=False)[0]


def _read(path: Path, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the checked header, and the tensors by their names in the file where they are wanted.

    Raises:
        ModelError: the file is missing, damaged, or not one of ours.
    """
    if not path.is_file():
        raise ModelError(
            f"{path}: there is no such checkpoint; train one first or give the path of a .safetensors file"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
            names = file.keys() if with_tensors else ()
            flat = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path}: is damaged or not a safetensors file ({error}); copy or download it again") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: has no yolograph header of format {FORMAT_VERSION}, so the model it belongs to is unknown"
        )
    for key, kind in HEADER_KINDS.items():
        if not isinstance(header.get(key), kind):
            raise ModelError(f"{path}: the entry '{key}' of its header is missing or damaged; copy the file again")
    for head, names in header["names"].items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ModelError(
                f"{path}: the class names of the head '{head[:100]}' are no list of texts; copy the file again"
            )
    return header, flat


def _read_keypoints(header: Mapping[str, Any], path: str | Path) -> dict[str, KeypointSpec]:
    """Return the header's descriptions of keypoints.

    Raises:
        ModelError: one is damaged.
    """
    described = header.get(KEYPOINTS_KEY, {})
    try:
        return {name: KeypointSpec.from_plain(plain) for name, plain in described.items()}
    except (AttributeError, ValueError, OverflowError) as error:
        reason = str(error)[:REASON_SHOWN]
        raise ModelError(
            f"{path}: the entry '{KEYPOINTS_KEY}' of its header is damaged ({reason}); copy the file again"
        ) from None


if __name__ == "__main__":
    from models.checkpoint_info import main
    from utils.errors import run_command

    run_command(main)
