"""What a run keeps to go on: on file systems without links, and after an interruption between two files."""

from __future__ import annotations

import errno
import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from utils.distributed import World
from utils.errors import UsageError
from utils.training import run_state
from utils.training.run_state import (
    LAST,
    PREVIOUS,
    Progress,
    Run,
    keep_as_previous,
    random_states,
    restore_random_states,
    stored_progress,
)
from utils.training.setup import require_format_of_run


def refuse(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_the_previous_checkpoint_stays_where_links_are_unknown(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(run_state.os, "link", refuse)
    last, previous = tmp_path / run_state.LAST, tmp_path / PREVIOUS
    previous.write_bytes(b"the one before")
    last.write_bytes(b"one")
    keep_as_previous(last)
    assert previous.read_bytes() == b"one"
    (tmp_path / "new").write_bytes(b"two")
    os.replace(tmp_path / "new", last)
    assert (last.read_bytes(), previous.read_bytes()) == (b"two", b"one")


def test_only_a_better_fitness_is_the_best() -> None:
    progress = Progress()
    assert [progress.take_fitness(epoch, value) for epoch, value in enumerate((0.0, 0.3, 0.3, 0.2), 1)] == [
        True,
        True,
        False,
        False,
    ]
    assert (progress.best_epoch, progress.best_fitness) == (2, 0.3)


def test_random_numbers_go_on_where_they_were() -> None:
    states = random_states(World())
    wanted = torch.rand(3)
    restore_random_states(states, World())
    assert torch.equal(torch.rand(3), wanted)


def test_progress_of_an_earlier_version_has_defaults() -> None:
    progress = stored_progress({"progress": {"epochs_done": 3, "unknown": 1}, "options": {"epochs": 3}})
    assert progress == Progress(epochs_done=3, epochs=3)
    assert progress.is_finished and not Progress(epochs_done=3, epochs=4).is_finished
    assert Progress(epochs_done=1, epochs=4, stopped_early=True).is_finished


def test_a_float16_run_does_not_go_on_on_a_cpu(tmp_path: Path) -> None:
    run = Run(tmp_path / "exp", Namespace(dtype="float16"), {})
    with pytest.raises(UsageError) as caught:
        require_format_of_run(run, torch.device("cpu"))
    assert "--device 0" in str(caught.value) and f"--weights {run.weights_folder / LAST}" in str(caught.value)
    require_format_of_run(run, torch.device("cuda"))
    run.options.dtype = "bfloat16"
    require_format_of_run(run, torch.device("cpu"))
