"""``python -m utils.explain attention``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.dataset import TaskDataset
from data.sources import Frame, find_sources, read_frames
from models.graph import Graph
from models.inference import RGB_CHANNELS
from models.weights import load_model
from utils.devices import select_device
from utils.errors import DataError, UsageError
from utils.explain.attention import Look, attention_maps, look_at
from utils.explain.attention_pictures import Scene, write_blocks, write_scene, write_token
from utils.explain.attention_share import FILE, records_of, share_in_box, write_shares
from utils.explain.head_data import LabelledPictures, open_head_data
from utils.explain.token_heads import (
    BlockPlace,
    TokenAnswers,
    blocks_before,
    choose_blocks,
    choose_head,
    require_tokens,
    token_count,
)
from utils.files import UniqueNames, increment_run_folder

LOGGER = logging.getLogger("yolograph")


@dataclass
class Run:
    """One run of the command.

    Attributes:
        graph: the model.
        head: name of the head that is explained.
        blocks: those whose attention is drawn.
        options: command-line values.
        labelled: finds labels, or None.
        folder: of the run; made when there is something to put into it.
        done: pictures drawn.
        empty: pictures without a token above the confidence, each with the score of its surest.
        failures: pictures that could not be read.
        records: of the table of what lies in the tokens' boxes.
    """

    graph: Graph
    head: str
    blocks: list[BlockPlace]
    options: argparse.Namespace
    labelled: LabelledPictures | None
    folder: Path | None = None
    done: int = 0
    empty: dict[Path, float] = field(default_factory=dict)
    failures: list[Path] = field(default_factory=list)
    records: list[tuple[object, ...]] = field(default_factory=list)
    _names: UniqueNames = field(default_factory=UniqueNames)

    def folder_for(self, picture: Path) -> Path:
        """Make and return the folder of one picture."""
        if self.folder is None:
            self.folder = increment_run_folder(self.options.project, self.options.name, self.options.exist_ok)
        folder = self.folder / self._names.take(picture.stem)
        folder.mkdir(exist_ok=True)
        return folder


def explain_attention(options: argparse.Namespace) -> Path:
    """Draw the attention of detection tokens over every picture, and return the run folder.

    Raises:
        UsageError: the model or an option does not fit, or no token is drawn in any picture.
        DataError: no picture could be read.
    """
    device = select_device(options.device)
    # Not load_inference: a form for running alone may leave out of the last block what detecting does not need.
    graph = load_model(options.weights, device)
    if graph.spec.channels != RGB_CHANNELS:
        raise UsageError(f"{options.weights}: takes {graph.spec.channels} channels, but pictures have {RGB_CHANNELS}")
    head = choose_head(graph, options.head, options.weights)
    every = blocks_before(graph, head)
    if not every:
        raise UsageError(
            f"{options.weights}: the head '{head}' has no ViTBlock row before it, whose attention is drawn"
        )
    blocks = choose_blocks(every, options.block)
    require_tokens(options.tokens, token_count(graph, head))
    dataset = open_head_data(graph, head, options.data, options.split) if options.data else None
    paths = _pictures(options, dataset)
    run = Run(graph, head, blocks, options, LabelledPictures(dataset) if dataset is not None else None)
    LOGGER.info(
        "%s on %s: head %s, attention of block %s of %d",
        options.weights,
        device,
        head,
        ", ".join(f"{block.position} ({block})" for block in blocks),
        len(every),
    )
    for frame in _frames(run, paths):
        _explain(run, frame, len(paths))
    return _report(run, len(paths))


def _pictures(options: argparse.Namespace, dataset: TaskDataset | None) -> list[Path]:
    """Return the pictures to draw.

    Raises:
        UsageError: the split has no picture of that position, or the source has no still image.
    """
    if options.source is not None:
        sources = find_sources(options.source)
        if not sources.images:
            raise UsageError(f"--source {options.source}: holds no still images, but only these are explained")
        others = len(sources.videos) + len(sources.live)
        if others:
            LOGGER.warning("left out: %d videos and live sources, only still images are explained", others)
        return sources.images
    for index in options.index:
        if not 0 <= index < len(dataset):
            raise UsageError(
                f"--index {index}: the {options.split} split of {options.data} has pictures 0 to {len(dataset) - 1}"
            )
    return [Path(dataset.ids[index]) for index in dict.fromkeys(options.index)]


def _frames(run: Run, paths: list[Path]) -> Iterator[Frame]:
    """Read the pictures; those that cannot be read are told and left out.

    Raises:
        DataError: it was the only one.
    """

    def failed(path: Path, error: DataError) -> None:
        if len(paths) == 1:
            raise error
        run.failures.append(path)
        LOGGER.warning("left out: %s", error)

    return read_frames(paths, failed)


def _explain(run: Run, frame: Frame, count: int) -> None:
    """Draw one picture, if there are tokens to draw."""
    look = look_at(run.graph, run.head, frame.image, run.options.img_size, run.blocks)
    tokens = _chosen(run.options, look.answers)
    title = f"image {frame.number}/{count} {frame.path.name}: {look.size[0]}x{look.size[1]}"
    names = run.graph.names[run.head]
    first = look.entering[run.blocks[0].position]
    scene = Scene(frame.image, look.answers, look.placement, look.size[0] // first.grid[0], names)
    if not tokens:
        best = int(look.answers.scores.argmax())
        run.empty[frame.path] = float(look.answers.scores[best])
        LOGGER.info("%s, no token above %g; the surest is %s", title, run.options.conf, scene.describe(best))
        return
    folder = run.folder_for(frame.path)
    labels = run.labelled.find(frame.path) if run.labelled is not None else None
    if run.labelled is not None and labels is None:
        LOGGER.warning("%s: the %s split of %s has no such picture", frame.path, run.options.split, run.options.data)
    write_scene(folder, scene, tokens, labels)
    _draw_tokens(run, frame.path, folder, scene, look, tokens)
    run.done += 1
    LOGGER.info("%s, tokens %s", title, ", ".join(scene.describe(token) for token in tokens))


def _chosen(options: argparse.Namespace, answers: TokenAnswers) -> list[int]:
    """Return the tokens to draw."""
    if options.tokens is None:
        return np.flatnonzero(answers.scores >= options.conf).tolist()
    return list(dict.fromkeys(options.tokens))


def _draw_tokens(run: Run, picture: Path, folder: Path, scene: Scene, look: Look, tokens: Sequence[int]) -> None:
    """Draw the chosen tokens in every chosen block, one block's maps in memory at a time."""
    means = []
    for block in run.blocks:
        maps = attention_maps(block, look.entering[block.position], tokens)
        place = folder if len(run.blocks) == 1 else folder / f"block-{block}"
        place.mkdir(exist_ok=True)
        for token, own in zip(tokens, maps, strict=True):
            write_token(place, scene, token, own)
            shares = share_in_box(own, look.answers.boxes[token], scene.placement, scene.patch)
            run.records += records_of(picture, (token, *scene.class_and_score(token)), block, shares)
        means.append(maps.mean(1))
    if len(run.blocks) > 1:
        for i, token in enumerate(tokens):
            write_blocks(folder, scene, token, run.blocks, [mean[i] for mean in means])


def _report(run: Run, count: int) -> Path:
    """Say what was done and return the run folder.

    Raises:
        DataError: no picture could be read.
        UsageError: no token was drawn.
    """
    if len(run.failures) == count:
        raise DataError(f"not one of the {count} pictures can be read; mend the files named above")
    if run.folder is None:
        path, best = max(run.empty.items(), key=lambda item: item[1])
        raise UsageError(
            f"no token is surer of an object than {run.options.conf:g}; the highest score is {best:.3g} ({path.name}), "
            "so give a lower --conf or name tokens with --tokens"
        )
    write_shares(run.folder / FILE, run.records)
    for paths, what in ((run.empty, "have no token above --conf"), (run.failures, "cannot be read")):
        if paths:
            LOGGER.warning("%d of %d pictures %s: %s", len(paths), count, what, ", ".join(path.name for path in paths))
    LOGGER.info("%d of %d pictures done\nresults in %s", run.done, count, run.folder)
    return run.folder
