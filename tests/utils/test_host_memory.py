"""Main memory: its peak, where the system tells it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from utils import host_memory
from utils.host_memory import peak_host_memory
from utils.training.progress import LossMeter, progress_bar, show_losses


def test_the_peak_covers_what_was_held() -> None:
    if host_memory.resource is None:
        pytest.skip("this system does not tell the peak of a process")
    held = np.ones(2**26, np.uint8)
    assert held.nbytes / 2**30 < peak_host_memory() < 1024


def test_progress_is_shown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "resource", None)
    assert peak_host_memory() is None
    head = SimpleNamespace(loss_names=("box", "obj"))
    meter = LossMeter([SimpleNamespace(name="detect", head=head)], torch.device("cpu"))
    meter.add({"detect": torch.tensor([1.0, 3.0])})
    meter.add({"detect": torch.tensor([2.0, 5.0])})
    with progress_bar(0, 2, 1, 1, hidden=False) as bar:
        show_losses(bar, meter, torch.device("cpu"))
        assert bar.postfix == "detect [box 1.5000 obj 4.0000]"
