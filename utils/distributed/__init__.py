"""Several processes that train one model, on one machine or many, started by torchrun.

``start_world`` joins them and gives every process its ``World``. A process that is alone gets one too; all that it
offers costs nothing then.
"""

from __future__ import annotations

from utils.distributed.failure import LostProcess, spoken_once
from utils.distributed.restart import find_restarted_run, remember_run
from utils.distributed.start import start_world
from utils.distributed.world import World

__all__ = ["LostProcess", "World", "find_restarted_run", "remember_run", "spoken_once", "start_world"]
