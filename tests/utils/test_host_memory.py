"""Main memory: its peak, where the system tells it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.heads.base import Criterion
from utils import host_memory
from utils.host_memory import free_host_memory, peak_host_memory
from utils.training.progress import LossMeter, progress_bar, show_losses


def test_the_peak_covers_what_was_held() -> None:
    if host_memory.resource is None:
        pytest.skip("this system does not tell the peak of a process")
    held = np.ones(2**26, np.uint8)
    assert held.nbytes / 2**30 < peak_host_memory() < 1024


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:   80 kB\n")
    group = tmp_path / "cgroup"
    group.mkdir()
    assert free_host_memory(meminfo, group) == 80 * 1024
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5000\n")
    assert free_host_memory(meminfo, group) == 80 * 1024
    (group / "memory.max").write_text("12000\n")
    assert free_host_memory(meminfo, group) == 7000
    assert free_host_memory(tmp_path / "none", group) is None
    (group / "memory.stat").write_text("anon 1\ninactive_file 2000\n")
    assert free_host_memory(meminfo, group) == 9000, "pages of files that were read make room"


def test_progress_is_shown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "resource", None)
    assert peak_host_memory() is None
    head = SimpleNamespace(loss_names=("box", "obj"), loss_groups={})
    task = SimpleNamespace(name="detect", head=head, criterion=Criterion(), shown=head.loss_names)
    meter = LossMeter([task], torch.device("cpu"))
    meter.add({"detect": torch.tensor([1.0, 3.0])})
    meter.add({"detect": torch.tensor([2.0, 5.0])})
    with progress_bar(0, 2, 1, 1, hidden=False) as bar:
        show_losses(bar, meter, torch.device("cpu"))
        assert bar.postfix == "detect [box 1.5000 obj 4.0000]"


def test_what_is_freed_stays_until_it_is_given_back() -> None:
    code = """
import ctypes
from pathlib import Path
from utils.host_memory import keep_freed_memory, return_freed_memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if keep_freed_memory():
    before, library = held(), ctypes.CDLL(None)
    library.malloc.restype, size = ctypes.c_void_p, 2**27
    block = library.malloc(ctypes.c_size_t(size))
    ctypes.memset(block, 1, size)
    library.free(ctypes.c_void_p(block))
    assert held() - before > size * 0.9
    assert return_freed_memory() and held() - before < size * 0.1
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
