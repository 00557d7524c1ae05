"""``--time HOURS``: the number of epochs follows from the time that they take, and the learning rate follows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass


def epochs_for(hours: float, epochs_done: float, seconds: float, first_seconds: float = 0.0) -> int:
    """Return how many epochs a run can have made when its time is up.

    Args:
        hours: that the run may take.
        epochs_done: above 0; a part of the first epoch is enough.
        seconds: that the run has taken so far.
        first_seconds: of these, the first epoch's, which pays for caches and compilation and says little about the
            others; 0 as long as it is the only one.

    Returns:
        The whole number of epochs, those done included, and always the one that is under way or comes next: the
        schedule needs an epoch to come to its end.
    """
    later = epochs_done - 1
    per_epoch = (seconds - first_seconds) / later if later > 0 and first_seconds else seconds / epochs_done
    left = hours * 3600 - seconds
    possible = math.floor(epochs_done + left / max(per_epoch, 1e-9))
    return max(possible, math.floor(epochs_done) + 1)


@dataclass
class RunLength:
    """How long a run is, and where on its schedule each moment of it lies.

    The schedule is gone through from 0 to 1. A new estimate of the number of epochs changes how fast, from where the
    run is at that moment; the learning rate never jumps, and it is at its end when the run is.

    Attributes:
        epochs: length of the run as it is known now.
        begun: epochs that were done when this length was set.
        share: of the schedule that was behind the run by then, 0..1.
        first_seconds: duration of the first epoch, 0 before its end.
    """

    epochs: int
    begun: float = 0.0
    share: float = 0.0
    first_seconds: float = 0.0

    def share_at(self, epoch: float) -> float:
        """Return which share of the schedule is behind the run after ``epoch`` epochs, a fraction within one."""
        if self.epochs <= self.begun:
            return 1.0
        return min(self.share + (1 - self.share) * (epoch - self.begun) / (self.epochs - self.begun), 1.0)

    def fit(self, hours: float, epochs_done: float, seconds: float) -> bool:
        """Set the number of epochs that fit into the time; a run that is at its end stays there.

        Args:
            hours: that the run may take.
            epochs_done: above 0, a fraction within the first epoch.
            seconds: that the run has taken so far.

        Returns:
            Whether the number has changed.
        """
        if epochs_done >= self.epochs:
            return False
        if epochs_done >= 1 and not self.first_seconds:
            self.first_seconds = seconds / epochs_done
        epochs = epochs_for(hours, epochs_done, seconds, self.first_seconds)
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
        return cls(
            int(stored["epochs"]), float(stored["begun"]), float(stored["share"]), float(stored["first_seconds"])
        )
