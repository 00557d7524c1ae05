"""``--visualize-assign``: pictures of which places answer for which objects in the first batches of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from data.samples import Batch
from utils.plots.assignment import draw_assignment
from utils.plots.drawing import save_picture
from utils.training.bad_rows import still_statistics
from utils.training.parts import Parts

MOST_BATCHES = 3


@torch.no_grad()
def draw_assignments(batches: Mapping[str, list[Batch]], parts: Parts, folder: Path) -> None:
    """Write ``assign_batchN_HEAD.jpg`` for the first batches of every head that can say what it assigns.

    The model is run as in training, and left as it was.

    Args:
        batches: by head, as they come from the loaders.
        parts: of the run.
        folder: where the pictures go.
    """
    for task in parts.tasks:
        if not hasattr(task.criterion, "assignment"):
            continue
        for number, batch in enumerate(batches[task.name][:MOST_BATCHES]):
            if len(batch) == 0:
                continue
            images = batch.images.to(parts.device)
            with still_statistics(parts.graph), torch.random.fork_rng([parts.device] if images.is_cuda else []):
                raw = parts.graph.forward(images, heads=(task.name,), sizes=batch.sizes)[task.name]
            found = task.criterion.assignment(raw, batch)
            picture = draw_assignment(batch, found, parts.graph.names[task.name])
            save_picture(folder / f"assign_batch{number}_{task.name}.jpg", picture)
