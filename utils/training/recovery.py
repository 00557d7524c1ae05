"""Going back to the last good state of a run, and giving up when that does not help either."""

from __future__ import annotations

import logging

from utils.errors import DivergedError
from utils.training.health import MOST_BAD_IN_A_ROW, REPORT
from utils.training.parts import Parts
from utils.training.run_state import Run, return_to_last_good

LOGGER = logging.getLogger("yolograph")
MOST_RETURNS = 1
RATE_AFTER_RETURN = 0.5


def go_back_or_give_up(run: Run, parts: Parts) -> None:
    """Take up the weights of the last checkpoint at half the learning rate; the data go on where they are.

    Raises:
        DivergedError: that has been tried before.
    """
    progress = run.progress
    if progress.returns >= MOST_RETURNS:
        raise DivergedError(
            f"{run.folder}: {MOST_BAD_IN_A_ROW} steps in a row were not finite, also from the last good state at half "
            f"the learning rate; see {run.folder / REPORT}, then lower lr0 or the gains, or train with --dtype float32"
        )
    return_to_last_good(run, parts)
    progress.returns += 1
    parts.rates.factor_of_run = RATE_AFTER_RETURN**progress.returns
    parts.health.forgive()
    LOGGER.warning(
        "%d steps in a row were not finite: going back to the last good state, at half the learning rate",
        MOST_BAD_IN_A_ROW,
    )
