"""Which run of a tracking service belongs to a run folder, and how far it has been told."""

from __future__ import annotations

import json
from pathlib import Path

from utils.files import atomic_write


class LoggedRun:
    """A small file in the run folder, so that a resumed run goes on in the log that it began and repeats nothing.

    A run that is resumed exactly measures the same numbers again, so those that are told already may be left out.

    Args:
        path: of the file.
        is_new: forget what it holds; it is of an earlier run in the same folder.

    Attributes:
        run_id: of the service, empty for a run that it does not know yet.
        last_step: the last step that it was told.
    """

    def __init__(self, path: Path, is_new: bool) -> None:
        self.path = path
        self.run_id, self.last_step = "", 0
        if is_new:
            path.unlink(missing_ok=True)
        elif path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            self.run_id, self.last_step = str(stored["run_id"]), int(stored["last_step"])

    def name(self, run_id: str) -> None:
        """Note the name that the service gave the run."""
        self.run_id = run_id
        self._write()

    def is_new_step(self, step: int) -> bool:
        """Return whether a step is to be told, and note that it is.

        Noted before it is told: killed in between, a run misses a point of its log rather than having it twice.
        """
        if step <= self.last_step:
            return False
        self.last_step = step
        self._write()
        return True

    def _write(self) -> None:
        atomic_write(self.path, json.dumps({"run_id": self.run_id, "last_step": self.last_step}).encode())
