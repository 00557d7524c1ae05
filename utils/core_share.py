"""How the cores of a machine are shared out: among passes side by side, and among the threads of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import torch

MOST_PASSES = 4
"""Side by side, because each needs memory for its own intermediate results."""


@dataclass(frozen=True)
class CoreShare:
    """How many passes run at once.

    On a CPU, one pass per core on a picture of its own gets more done than one pass whose threads wait for each other
    in every layer, and for a core that decodes or encodes a video meanwhile.

    Attributes:
        passes: side by side.
        threads: of PyTorch within each.
    """

    passes: int = 1
    threads: int = 1

    @classmethod
    def of(cls, device: torch.device, wanted: int | None = None, batches: int | None = None) -> CoreShare:
        """Share the threads out that PyTorch would take.

        Args:
            device: where passes run; on a GPU there is one at a time.
            wanted: passes side by side, or None for one per core, ``MOST_PASSES`` at most.
            batches: how many passes there will be at all, if that is known: a single one takes all cores.
        """
        cores = torch.get_num_threads()
        passes = wanted or (min(cores, MOST_PASSES) if device.type == "cpu" else 1)
        passes = max(min(passes, batches or passes), 1)
        return cls(passes, max(cores // passes, 1))

    def enter_thread(self) -> None:
        """Take this share in a thread that runs passes."""
        torch.set_num_threads(self.threads)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let OpenCV start no threads of its own beside several passes within a block."""
        before = cv2.getNumThreads(), torch.get_num_threads()
        if self.passes > 1:
            cv2.setNumThreads(1)
        try:
            yield
        finally:
            cv2.setNumThreads(before[0])
            # The threads of the block have set what later ones would take.
            torch.set_num_threads(before[1])
