"""``--time HOURS``: the number of epochs follows from the time that they take, and the learning rate follows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

HOUR = 3600.0


@dataclass
class RunLength:
    """How long a run is, and where on its schedule each moment of it lies.

    The schedule is gone through from 0 to 1. A new estimate of the number of epochs changes how fast, from where the
    run is at that moment; the learning rate never jumps, and it is at its end when the run is. Only where the time
    turns out to be enough for more epochs after the schedule has ended do these have the last learning rate.

    Attributes:
        epochs: length of the run as it is known now.
        begun: epochs that were done when this length was set.
        share: of the schedule that was behind the run by then, 0..1.
        start_epochs: epochs, a fraction, that the first step has done.
        start_seconds: that the run had taken when its first step was done: data, caches, compilation; 0 before.
        first_seconds: that it had taken at the end of its first epoch, 0 before.
    """

    epochs: int
    begun: float = 0.0
    share: float = 0.0
    start_epochs: float = 0.0
    start_seconds: float = 0.0
    first_seconds: float = 0.0

    def share_at(self, epoch: float) -> float:
        """Return which share of the schedule is behind the run after ``epoch`` epochs, a fraction within one."""
        if self.epochs <= self.begun:
            return 1.0
        return min(self.share + (1 - self.share) * (epoch - self.begun) / (self.epochs - self.begun), 1.0)

    def note(self, epochs_done: float, seconds: float) -> None:
        """Remember how long the run's first step and its first epoch took, when they are done.

        Args:
            epochs_done: above 0, a fraction within the first epoch.
            seconds: that the run has taken so far.
        """
        if not self.start_seconds:
            self.start_epochs, self.start_seconds = epochs_done, seconds
        if epochs_done >= 1 and not self.first_seconds:
            self.first_seconds = seconds

    def seconds_per_epoch(self, epochs_done: float, seconds: float) -> float | None:
        """Return how long an epoch takes by what is known so far, None where nothing is.

        The first epoch pays for caches and says little about the others, as soon as there are others; what came before
        the end of the first step says nothing about any.
        """
        if epochs_done > 1 and self.first_seconds:
            return (seconds - self.first_seconds) / (epochs_done - 1)
        if epochs_done > self.start_epochs and self.start_seconds:
            return (seconds - self.start_seconds) / (epochs_done - self.start_epochs)
        # A single step was the whole of it.
        return seconds / epochs_done if epochs_done >= 1 else None

    def fit(self, hours: float, epochs_done: float, seconds: float) -> bool:
        """Set the number of epochs that fit into the time.

        The epoch that is under way counts as one that fits. At the end of an epoch the one that comes next does too as
        long as the schedule has not come to its end, because that takes an epoch.

        Args:
            hours: that the run may take.
            epochs_done: above 0, a fraction within the first epoch.
            seconds: that the run has taken so far.

        Returns:
            Whether the number has changed.
        """
        self.note(epochs_done, seconds)
        per_epoch = self.seconds_per_epoch(epochs_done, seconds)
        if per_epoch is None:
            return False
        possible = math.floor(epochs_done + (hours * HOUR - seconds) / max(per_epoch, 1e-9))
        ended = epochs_done >= self.epochs
        epochs = max(possible, self.epochs if ended else math.floor(epochs_done) + 1)
        if epochs == self.epochs:
            return False
        self.share, self.begun = self.share_at(epochs_done), float(epochs_done)
        self.epochs = epochs
        return True

    def state(self) -> dict[str, float]:
        """Return plain numbers that ``from_state`` takes back."""
        return asdict(self)

    @classmethod
    def from_state(cls, stored: Mapping[str, float], epochs: int) -> RunLength:
        """Return a stored length; one of ``epochs`` where nothing is stored."""
        if not stored:
            return cls(epochs)
        known = {entry.name: float(stored[entry.name]) for entry in fields(cls) if entry.name in stored}
        return cls(**(known | {"epochs": int(stored["epochs"])}))
