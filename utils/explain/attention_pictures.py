"""Draws the attention of detection tokens over one picture, and names the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.samples import Placement
from utils.explain.head_data import Labels
from utils.explain.native_maps import enlarge, enlarge_smoothly
from utils.explain.token_heads import BlockPlace, TokenAnswers
from utils.plots.drawing import draw_boxes, label_texts, save_picture
from utils.plots.heat_maps import heat_colours, heat_over
from utils.plots.montage import montage


@dataclass(frozen=True)
class Scene:
    """One picture and what the tokens say of it.

    Attributes:
        image: (H, W, 3) uint8 RGB, native.
        answers: of all tokens.
        placement: where the picture lies within the network's input.
        patch: side of a patch, input pixels.
        names: class names.
    """

    image: np.ndarray
    answers: TokenAnswers
    placement: Placement
    patch: int
    names: Sequence[str]

    def with_predictions(self, image: np.ndarray, tokens: Sequence[int], numbered: bool = False) -> np.ndarray:
        """Draw what some tokens say on a picture of the native size, with their numbers if asked."""
        chosen = list(tokens)
        classes = self.answers.classes[chosen]
        texts = label_texts(self.names, classes, self.answers.scores[chosen])
        if numbered:
            texts = [f"{token}: {text}" for token, text in zip(chosen, texts, strict=True)]
        return draw_boxes(image, self.answers.boxes[chosen], classes, texts)

    def class_and_score(self, token: int) -> tuple[str, str]:
        """Return such as ``person`` and ``0.9512``."""
        return self.names[int(self.answers.classes[token])], f"{self.answers.scores[token]:.4f}"

    def describe(self, token: int) -> str:
        """Return ``17 person 0.95``."""
        own = slice(token, token + 1)
        return f"{token} {label_texts(self.names, self.answers.classes[own], self.answers.scores[own])[0]}"


def write_scene(folder: Path, scene: Scene, tokens: Sequence[int], labels: Labels | None) -> None:
    """Write ``img.png``, ``pred_img.png`` and, with labels, ``gt_img.png``."""
    save_picture(folder / "img.png", scene.image)
    save_picture(folder / "pred_img.png", scene.with_predictions(scene.image, tokens, numbered=True))
    if labels is not None:
        texts = label_texts(scene.names, labels.classes)
        save_picture(folder / "gt_img.png", draw_boxes(scene.image, labels.boxes, labels.classes, texts))


def write_token(folder: Path, scene: Scene, token: int, maps: np.ndarray) -> None:
    """Write the pictures of one token: a map per head, their mean, and montages of the maps and of overlays.

    Args:
        folder: of the picture.
        scene: the picture.
        token: its number.
        maps: (heads, gh, gw) attention of each head.
    """
    own = folder / f"Det-Tok-{token}"
    own.mkdir(exist_ok=True)
    all_maps = [maps.mean(0), *maps]
    names = ["mean", *(f"head{head}" for head in range(len(maps)))]
    flat = [heat_colours(enlarge(each, scene.placement, scene.patch)) for each in all_maps]
    over = [heat_over(scene.image, enlarge_smoothly(each, scene.placement, scene.patch)) for each in all_maps]
    flat, over = ([scene.with_predictions(picture, [token]) for picture in kind] for kind in (flat, over))
    for name, picture, overlay in zip(names, flat, over, strict=True):
        save_picture(own / f"attn-head{'-mean' if name == 'mean' else name.removeprefix('head')}.png", picture)
        save_picture(own / f"overlay-{name}.jpg", overlay)
    prediction = scene.with_predictions(scene.image, [token])
    captions = [f"token {scene.describe(token)}", "mean of heads", *(f"head {head}" for head in range(len(maps)))]
    save_picture(folder / f"Det-Tok-{token}_attn.png", montage([prediction, *flat], captions))
    save_picture(folder / f"Det-Tok-{token}_overlay.jpg", montage([prediction, *over], captions))


def write_blocks(
    folder: Path, scene: Scene, token: int, blocks: Sequence[BlockPlace], means: Sequence[np.ndarray]
) -> None:
    """Write ``Det-Tok-I_blocks.jpg``: the mean map of one token in every chosen block, laid over the picture.

    Args:
        folder: of the picture.
        scene: the picture.
        token: its number.
        blocks: in the order in which they run.
        means: per block (gh, gw), the mean of its heads.
    """
    over = [heat_over(scene.image, enlarge_smoothly(mean, scene.placement, scene.patch)) for mean in means]
    pictures = [scene.with_predictions(picture, [token]) for picture in (scene.image, *over)]
    captions = [f"token {scene.describe(token)}", *(f"block {block.position} ({block})" for block in blocks)]
    save_picture(folder / f"Det-Tok-{token}_blocks.jpg", montage(pictures, captions))
