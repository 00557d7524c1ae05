"""What happens when losses or gradients are not finite: the step is left out, explained and counted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.samples import Batch
from models.graph import Graph
from utils.distributed import World
from utils.errors import is_out_of_memory
from utils.training.bad_rows import first_bad_row
from utils.training.tasks import TrainTask

LOGGER = logging.getLogger("yolograph")
MOST_BAD_IN_A_ROW = 10
STEPS_BETWEEN_READS = 8
FILES_SHOWN = 4
REPORT = "nonfinite.txt"


@dataclass
class StepRecord:
    """One step, as far as somebody may ask about it later.

    Attributes:
        number: of the step within the run, from 1.
        parts: per head (parts,) its weighted losses, and what its criterion watches behind them, on the device.
        bad: 0-dim tensor on the device, not 0 where the step was left out.
        ids: per head the files of its batches.
        batches: per head its batches; taken away once another step has followed.
    """

    number: int
    parts: Mapping[str, Tensor]
    bad: Tensor
    ids: dict[str, list[str]]
    batches: Mapping[str, list[Batch]] | None


class Health:
    """Reads now and then which steps were left out; on a GPU not after each, because reading waits for it.

    Args:
        graph: the model.
        tasks: its tasks.
        world: the processes that share the work.
        dtype: reduced format of forward passes, None for float32.
        folder: run folder; ``nonfinite.txt`` there gets every file of every such step.

    Attributes:
        bad_total: steps left out so far.
        bad_in_a_row: steps left out since the last good one.
    """

    def __init__(
        self, graph: Graph, tasks: list[TrainTask], world: World, dtype: torch.dtype | None, folder: Path
    ) -> None:
        self.graph, self.tasks, self.dtype, self.folder = graph, {task.name: task for task in tasks}, dtype, folder
        self.bad_total = 0
        self.bad_in_a_row = 0
        self.world = world
        self._unread: list[StepRecord] = []
        self._closely = False

    @property
    def is_due(self) -> bool:
        """Whether reading costs nothing or has waited long enough."""
        patience = STEPS_BETWEEN_READS if self.world.device.type != "cpu" and not self._closely else 1
        return len(self._unread) >= patience

    @property
    def is_beyond_hope(self) -> bool:
        """Whether so many steps in a row were left out that more of them would not help."""
        return self.bad_in_a_row >= MOST_BAD_IN_A_ROW

    def add(self, record: StepRecord) -> None:
        """Take the record of a step; the batches of the one before are let go."""
        if self._unread:
            self._unread[-1].batches = None
        self._unread.append(record)

    def read(self) -> None:
        """Find out which steps were left out since the last reading, and explain them."""
        if not self._unread:
            return
        flags = torch.stack([record.bad.reshape(()).float() for record in self._unread]).tolist()
        for record, flag in zip(self._unread, flags, strict=True):
            self.bad_in_a_row = self.bad_in_a_row + 1 if flag else 0
            if flag:
                self.bad_total += 1
                # From now on every step is read, so that the next one can be explained down to its row.
                self._closely = True
                self._explain(record)
        self._unread.clear()

    def forgive(self) -> None:
        """Begin to count anew, after the run went back to a good state."""
        self.bad_in_a_row = 0

    def _explain(self, record: StepRecord) -> None:
        """Say in one line what was not finite in which process, and write down every file that took part."""
        # All processes come here for the same steps, because they share gradients.
        found = self.world.gather_on_first_rank(self._blame(record))
        if found is None:
            return
        # The loss of all processes is not finite where that of one is not, but only that one finds a bad row.
        what, row, ids = min(found, key=lambda blame: blame[1] is None)
        shown = ", ".join(ids[:FILES_SHOWN]) + (f" and {len(ids) - FILES_SHOWN} more" if len(ids) > FILES_SHOWN else "")
        sentence = (
            f"step {record.number} was left out ({self.bad_in_a_row} in a row): {what} is not finite"
            f"{f', first {row}' if row else ''}; files: {shown}"
        )
        LOGGER.warning("%s", sentence)
        with open(self.folder / REPORT, "a", encoding="utf-8") as file:
            file.write("\n  ".join([sentence, *ids]) + "\n")

    def _blame(self, record: StepRecord) -> tuple[str, str | None, list[str]]:
        """Return what was not finite, the first row where it shows, and the files of this process."""
        blamed = [name for name, parts in record.parts.items() if not bool(torch.isfinite(parts).all())]
        heads = blamed[:1] or list(record.parts)
        what = f"the loss of head '{blamed[0]}'" if blamed else "the gradient"
        return what, self._blamed_row(record, heads), [file for name in heads for file in record.ids[name]]

    def _blamed_row(self, record: StepRecord, heads: list[str]) -> str | None:
        # Norms that exchange statistics would wait for processes that have found nothing bad to run again.
        if record.batches is None or self.world.synchronises_norms:
            return None
        try:
            for name in heads:
                for batch in record.batches[name]:
                    if len(batch) and (row := first_bad_row(self.graph, self.tasks[name], batch, self.dtype)):
                        return row
        except (RuntimeError, MemoryError) as error:
            # The step itself may have been made in smaller pieces.
            if not is_out_of_memory(error):
                raise
        return None
