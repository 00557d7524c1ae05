"""What a file, or another one beside it, says of a deformable DETR that its tensors do not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.convert.hugging_face import label_names_of, require_kind, require_values
from models.convert.records import MOST_NAME
from utils.errors import ModelError

KIND = "deformable_detr"
OURS = {"activation_function": "relu", "position_embedding_type": "sine", "num_channels": 3, "dilation": False}
"""What a config.json may say that is computed here, in its own words."""
MOST = 10_000


@dataclass(frozen=True)
class DetrFacts:
    """What tensors do not tell; None is for what nothing says.

    Attributes:
        heads: attention heads of encoder and decoder.
        queries: how many.
        box_refine: whether every layer of the decoder moves the boxes.
        look_forward_twice: whether the loss of a layer reaches the layer before it, too.
        mixed: whether several queries learn an object beside those that one learns.
        dropout: probability.
        top_k: answers of a picture.
        nms: IoU above which answers of one class are suppressed.
        labels: names of the labels.
    """

    heads: int | None = None
    queries: int | None = None
    box_refine: bool | None = None
    look_forward_twice: bool | None = None
    mixed: bool | None = None
    dropout: float | None = None
    top_k: int | None = None
    nms: float | None = None
    labels: Sequence[str] | None = None


def facts_of_options(path: object, options: Mapping[str, Any]) -> DetrFacts:
    """Return what the options of the official programs say, which their checkpoints hold.

    Raises:
        ModelError: they ask for something that is not computed here.
    """
    if options.get("dilation") is True or options.get("position_embedding", "sine") not in ("sine", "v2"):
        raise ModelError(
            f"{path}: was trained with --dilation or learnt positions, which are not computed here; take a file without"
        )
    return DetrFacts(
        heads=_count(options.get("nheads")),
        queries=_count(options.get("num_queries")),
        box_refine=_truth(options.get("with_box_refine")),
        look_forward_twice=_truth(options.get("look_forward_twice")),
        mixed=_truth(options.get("use_ms_detr")),
        dropout=_fraction(options.get("dropout")),
        top_k=_count(options.get("topk_eval")),
        nms=_fraction(options.get("nms_iou_threshold")) or None,
    )


def facts_of_detr_config(config: tuple[Path, dict[str, Any]]) -> DetrFacts:
    """Return what the config.json of a Deformable-DETR of Hugging Face says.

    Args:
        config: its path and what it holds.

    Raises:
        ModelError: it is that of another kind of model, or a value is none that can be computed here.
    """
    path, values = config
    require_kind(path, values, KIND)
    require_values(path, values, OURS)
    heads = [values.get(f"{part}_attention_heads", 8) for part in ("encoder", "decoder")]
    if _count(heads[0]) is None or heads[0] != heads[1]:
        said = " and ".join(str(number)[:MOST_NAME] for number in heads)
        raise ModelError(
            f"{path}: encoder and decoder have one number of attention heads here, not {said}; take another model"
        )
    two_stage = values.get("two_stage") is True
    return DetrFacts(
        heads=heads[0],
        queries=_count(values.get("two_stage_num_proposals" if two_stage else "num_queries")),
        box_refine=_truth(values.get("with_box_refine", False)),
        mixed=False,
        dropout=_fraction(values.get("dropout")),
        labels=label_names_of(values),
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and 1 <= value <= MOST else None


def _fraction(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < 1 else None


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
