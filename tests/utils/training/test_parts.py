"""Parts: which batches the statistics of BatchNorm are estimated from, and what an epoch's start tells losses."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from utils.training import parts as module
from utils.training.parts import Parts
from utils.training.turns import Turns


class Task:
    """A head with so many batches per pass, which notes what it is asked for."""

    def __init__(self, name: str, batches: int) -> None:
        self.name, self.loader = name, [None] * batches
        self.passes: list[tuple[int, int]] = []
        self.epochs: list[tuple[int, int]] = []
        self.criterion = SimpleNamespace(start_epoch=lambda *given: self.epochs.append(given))

    def batches_of_pass(self, number: int, count: int) -> list:
        self.passes.append((number, count))
        return []


def parts_of(tasks: list[Task], **rules: str) -> Parts:
    parts = Parts.__new__(Parts)
    parts.tasks, parts.device, parts.dtype = tasks, None, None
    parts.turns = Turns({task.name: len(task.loader) for task in tasks}, **rules)
    parts.world = SimpleNamespace(size=1)
    parts.ema = SimpleNamespace(module=None)
    parts.graph = SimpleNamespace(train=lambda: None)
    return parts


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({"epoch_rule": "longest"}, {"long": [1, 2, 3], "short": [3, 6, 9]}),
        ({"epoch_rule": "shortest"}, {"long": [0, 0, 1], "short": [1, 2, 3]}),
        ({"rule": "proportional"}, {"long": [1, 2, 3], "short": [1, 2, 3]}),
    ],
)
def test_statistics_come_from_the_pass_in_which_a_head_is(
    rules: dict, passes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "estimate_statistics", lambda *given: None)
    tasks = [Task("long", 9), Task("short", 3)]
    parts = parts_of(tasks, **rules)
    for epoch in (1, 2, 3):
        parts.make_statistics_precise(epoch, 2)
    assert {task.name: [number for number, _ in task.passes] for task in tasks} == passes


def test_every_criterion_hears_of_an_epoch_from_0() -> None:
    tasks = [Task("long", 9), Task("short", 3)]
    parts_of(tasks).start_epoch(1, 300)
    assert [task.epochs for task in tasks] == [[(0, 300)]] * 2
