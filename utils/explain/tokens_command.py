"""``python -m utils.explain tokens``."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data.dataset import TaskDataset
from models.exported.paths import is_exported
from models.inference import Inference, load_inference
from utils.boxes import xyxy_to_xywh
from utils.devices import autocast_dtype, select_device
from utils.errors import UsageError
from utils.explain.head_data import open_head_data
from utils.explain.token_heads import TokenAnswers, choose_head, read_answers, require_tokens, token_count
from utils.explain.token_table import TokenTable
from utils.files import increment_run_folder
from utils.plots.token_statistics import plot_token_boxes, plot_token_classes
from utils.validation import build_tests

LOGGER = logging.getLogger("yolograph")
FILE = "predictions.npz"
USUAL_PANELS = 10


def explain_tokens(options: argparse.Namespace) -> Path:
    """Gather what every token says over a split, or read it from a file, draw it, and return the run folder.

    Raises:
        UsageError: the model or an option does not fit.
        DataError: the data or the file of an earlier run are missing or wrong.
    """
    table, folder = _read(options) if options.npz else _measure(options)
    kept = int((table.scores >= options.conf).sum())
    if not kept:
        raise UsageError(
            f"--conf {options.conf:g}: no prediction has such a score, the highest is {table.scores.max():.3g}; draw "
            f"again with a lower one and --npz {options.npz or folder / FILE}"
        )
    folder = folder or increment_run_folder(options.project, options.name, options.exist_ok)
    tokens = options.tokens or list(range(table.tokens if options.all_tokens else min(table.tokens, USUAL_PANELS)))
    plot_token_boxes(tokens, [table.boxes_of(token, options.conf) for token in tokens], folder / "token_boxes.png")
    counts = table.class_counts(options.conf)
    plot_token_classes(counts, table.true_counts(), table.names.tolist(), folder / "token_classes.png")
    LOGGER.info(
        "%d of %d predictions of %d tokens over %d images counted, beside %d labelled objects\nresults in %s",
        kept,
        table.scores.size,
        table.tokens,
        len(table.image_ids),
        len(table.true_classes),
        folder,
    )
    return folder


def _read(options: argparse.Namespace) -> tuple[TokenTable, None]:
    """Read what an earlier run has found; there is no folder yet."""
    table = TokenTable.load(Path(options.npz))
    require_tokens(options.tokens, table.tokens)
    return table, None


def _measure(options: argparse.Namespace) -> tuple[TokenTable, Path]:
    """Run the model over the split and save what it says in the folder of the run."""
    if is_exported(options.weights):
        raise UsageError(f"{options.weights}: is an exported file; give the checkpoint that it was made from")
    device = select_device(options.device)
    dtype = autocast_dtype(device, options.dtype)
    model = load_inference([options.weights], device)
    graph = model.graphs[0]
    head = choose_head(graph, options.head, options.weights)
    require_tokens(options.tokens, token_count(graph, head))
    dataset = open_head_data(graph, head, options.data, options.split)
    folder = increment_run_folder(options.project, options.name, options.exist_ok)
    answers, skipped = _run(model, head, dataset, device, dtype, options)
    for message in skipped:
        LOGGER.warning("skipped: %s", message)
    if skipped:
        LOGGER.warning("%d of %d images skipped", len(dataset) - len(answers), len(dataset))
    table = tabulate(head, graph.names[head], dataset, answers)
    table.save(folder / FILE)
    return table, folder


@torch.inference_mode()
def _run(
    model: Inference,
    head: str,
    dataset: TaskDataset,
    device: torch.device,
    dtype: torch.dtype | None,
    options: argparse.Namespace,
) -> tuple[dict[str, TokenAnswers], list[str]]:
    """Return what the tokens say of every image by its path, and the messages of images that cannot be read."""
    tests = build_tests(model, {head: dataset}, options.img_size, options.img_size, options.batch_size, options.workers)
    loader = tests[head].loader
    answers: dict[str, TokenAnswers] = {}
    for batch in tqdm(loader, desc="tokens", unit="batch", leave=False, dynamic_ncols=True, delay=1.0):
        batch = batch.to(device)
        found = model(batch.images, (head,), dtype, batch.sizes)[head]
        answers |= dict(zip(batch.ids, read_answers(found, batch.placements), strict=True))
    return answers, loader.skipped


def tabulate(head: str, names: list[str], dataset: TaskDataset, answers: dict[str, TokenAnswers]) -> TokenTable:
    """Put answers and labels side by side, images in the order of the data set.

    Labels of regions with many objects (COCO's crowds) are left out.

    Args:
        head: name of the head.
        names: class names.
        dataset: with the labels.
        answers: by path of the image; images without any are left out with their labels.
    """
    ids = list(dataset.ids)
    seen = [i for i, path in enumerate(ids) if path in answers]
    position = np.full(len(ids), -1)
    position[seen] = np.arange(len(seen))
    own = [answers[ids[i]] for i in seen]
    sizes = np.asarray(dataset.sizes, np.int32)[seen]
    owners = position[np.repeat(np.arange(len(ids)), np.diff(dataset.offsets))]
    counted = owners >= 0
    if dataset.crowd is not None:
        counted &= ~np.asarray(dataset.crowd, bool)
    owners = owners[counted]
    corners = np.stack([answer.boxes for answer in own])
    true_boxes = xyxy_to_xywh(np.asarray(dataset.boxes)[counted]).astype(np.float32)
    true_boxes[:, 2:] *= sizes[owners][:, ::-1]
    return TokenTable(
        head=head,
        names=np.array(names, np.str_),
        image_ids=np.array([ids[i] for i in seen], np.str_),
        image_sizes=sizes,
        classes=np.stack([answer.classes for answer in own]).astype(np.int32),
        scores=np.stack([answer.scores for answer in own]).astype(np.float32),
        boxes=_with_shares(corners, sizes),
        true_images=owners.astype(np.int32),
        true_classes=np.asarray(dataset.classes)[counted].astype(np.int32),
        true_boxes=true_boxes,
    )


def _with_shares(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return (N, Q, 4) corners in pixels as centres in shares of their images and sizes in pixels."""
    boxes = xyxy_to_xywh(corners).astype(np.float32)
    boxes[..., :2] /= sizes[:, None, ::-1]
    return boxes
