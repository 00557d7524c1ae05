"""When the memory does not suffice for a step: smaller pieces of it, one after the other."""

from __future__ import annotations

import gc
import logging

import torch

from utils.errors import RunError, is_out_of_memory
from utils.host_memory import return_freed_memory

LOGGER = logging.getLogger("yolograph")


class MemoryRetry:
    """Decides what becomes of a step that ran out of memory: it is made again with every batch in twice as many pieces.

    Losses are means over the nominal batch, so that pieces change nothing but what BatchNorm sees at a time.

    Attributes:
        pieces: into how many pieces every batch is cut, for ``Batch.cut``; 1, 2, 4 ... It never falls again.
    """

    def __init__(self, pieces: int = 1) -> None:
        self.pieces = pieces

    def on_failure(self, error: BaseException, largest_micro_batch: int) -> None:
        """Cut smaller from now on and free what can be freed; afterwards the step can be made again.

        Whatever the failed attempt computed is let go with the error's traceback. Gradients are the caller's to drop.

        Args:
            error: what the step raised; another error than one of memory is raised again.
            largest_micro_batch: images in the largest piece of the step that failed.

        Raises:
            RunError: a single image does not fit.
        """
        if not is_out_of_memory(error):
            raise error
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if largest_micro_batch <= 1:
            raise RunError(
                f"there is not enough memory to train on a single image ({text}); take a smaller --img-size or model, "
                "add --recompute, or leave memory to the run by closing other programs"
            ) from None
        # The frames of the traceback hold every tensor of the failed attempt.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        gc.collect()
        return_freed_memory()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        self.pieces *= 2
        LOGGER.warning(
            "out of memory with %d images at a time: from now on batches are worked on in %d pieces, one after the "
            "other; a smaller --batch-size would do the same for BatchNorm, and --recompute may spare it",
            largest_micro_batch,
            self.pieces,
        )
