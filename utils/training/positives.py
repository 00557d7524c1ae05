"""A run of whose objects none is answered for by a prediction learns no boxes, and says so early."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from utils.training.tasks import TrainTask

LOGGER = logging.getLogger("yolograph")
FIRST_EPOCHS = 3
BOX_PART = "box"
"""Loss of the boxes of positive predictions, which every head that finds objects has; exactly 0 without any. Where
every layer has one of its own, it is a word of their names: ``box_0``, ``o2m_box_5``."""


def warn_without_positives(tasks: Sequence[TrainTask], means: Mapping[str, Mapping[str, float]], epoch: int) -> None:
    """Say in one line of which heads not one prediction had an object in one of the first epochs.

    Args:
        tasks: of the run.
        means: head -> part -> mean loss of the epoch.
        epoch: its number, from 1.
    """
    if epoch > FIRST_EPOCHS:
        return
    for task in tasks:
        boxes = [value for part, value in means.get(task.name, {}).items() if BOX_PART in part.split("_")]
        if task.finds_objects and boxes and not any(boxes):
            LOGGER.warning(
                "epoch %d: no prediction of '%s' had an object to answer for, so it learns no boxes; look at "
                "train_batch0_%s.jpg (without --noplots): are the objects there, and large enough at this --img-size?",
                epoch,
                task.name,
                task.name,
            )
