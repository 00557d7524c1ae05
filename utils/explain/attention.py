"""Self-attention of detection tokens: one pass over a picture, then the wanted rows of the attention alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from data.samples import Placement
from data.transforms.letterbox import apply_plan, plan_for_stride
from models.graph import Graph
from models.tokens import Tokens
from utils.explain.token_heads import BlockPlace, TokenAnswers, read_answers


@dataclass(frozen=True)
class Look:
    """One picture as a model has seen it.

    Attributes:
        answers: of every token.
        entering: the tokens that entered each watched block, by its position.
        placement: where the picture lies within the input.
        size: (height, width) of the input, pixels.
    """

    answers: TokenAnswers
    entering: dict[int, Tokens]
    placement: Placement
    size: tuple[int, int]


@torch.inference_mode()
def look_at(graph: Graph, head: str, image: np.ndarray, img_size: int, blocks: Sequence[BlockPlace]) -> Look:
    """Run one head over one picture and keep what enters some of its blocks.

    Args:
        graph: in eval mode.
        head: name of a head that answers by tokens.
        image: (H, W, 3) uint8 RGB.
        img_size: as for detecting; the model's rule for inputs says what it means.
        blocks: those to watch.
    """
    plan = plan_for_stride(image.shape[:2], img_size, graph.stride, graph.letterbox)
    device = next(graph.parameters()).device
    batch = torch.from_numpy(apply_plan(image, plan)).permute(2, 0, 1)[None].to(device)
    with _watching([block.module for block in blocks]) as entered:
        raw = graph(batch, heads=(head,))[head]
    found = graph.heads[head].predict(raw, plan.out)
    entering = {block.position: entered[block.module] for block in blocks}
    return Look(read_answers(found, [plan.placement])[0], entering, plan.placement, plan.out)


@torch.inference_mode()
def attention_maps(block: BlockPlace, tokens: Tokens, chosen: Sequence[int], picture: int = 0) -> np.ndarray:
    """Return how much some detection tokens of one picture attend to every patch.

    Only the rows of these tokens are computed, not the whole matrix. What they attend to besides patches, [CLS] and
    other detection tokens, is left out, so a map adds up to less than 1.

    Args:
        block: whose attention.
        tokens: that have entered it.
        chosen: numbers of detection tokens, from 0; at least one.
        picture: position in the batch.

    Returns:
        (k, heads, gh, gw) float32; of a padded batch 0 beyond the picture's valid area.
    """
    rows, columns = tokens.grid
    first = tokens.values.shape[1] - tokens.suffix
    low, high = min(chosen), max(chosen) + 1
    weights = block.module.attention(tokens, slice(first + low, first + high))[picture]
    patches = weights[:, [number - low for number in chosen], tokens.prefix : tokens.prefix + rows * columns]
    return patches.transpose(0, 1).unflatten(-1, (rows, columns)).float().cpu().numpy()


@contextmanager
def _watching(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Tokens]]:
    """Collect the input of modules while the block runs."""
    entered: dict[nn.Module, Tokens] = {}
    handles = [module.register_forward_pre_hook(lambda own, args: entered.update({own: args[0]})) for module in modules]
    try:
        yield entered
    finally:
        for handle in handles:
            handle.remove()
