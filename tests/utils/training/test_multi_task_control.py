"""Balance, norms per task, turns and learning-rate factors together, on a small model: it learns and it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.samples import Batch
from models.graph import Graph, load_graph
from models.row_use import parameter_factors
from utils.optimizer import build_optimizer, load_optimizer_tensors, optimizer_tensors
from utils.recipe import DEFAULTS
from utils.training.balance import Balance, build_balance
from utils.training.turns import Turns

GAINS = {"segment": 0.35, "detect": 0.6}
LENGTHS = {"segment": 1, "detect": 3}


def labelled_batch(seed: int) -> Batch:
    """Return four pictures with a bright block each, its box and its mask."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(90, 130, (4, 3, 64, 64), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    boxes = torch.zeros(4, 1, 4)
    for i, (x, y) in enumerate(torch.randint(0, 40, (4, 2), generator=generator).tolist()):
        images[i, i % 3, y : y + 20, x : x + 20] = 230
        masks[i, y : y + 20, x : x + 20] = i % 3 + 1
        boxes[i, 0] = torch.tensor([x, y, x + 20, y + 20])
    classes = (torch.arange(4) % 3)[:, None]
    return Batch(images, boxes, classes, torch.ones(4, 1, dtype=torch.bool), masks=masks)


class SmallRun:
    """The parts that a run puts together, and a step of it without everything else."""

    def __init__(self, model: Path, method: str, norms: str) -> None:
        torch.manual_seed(0)
        spec = load_graph(model).spec
        self.graph = Graph(spec.with_values(bn="per-task") if norms == "per-task" else spec)
        if norms == "frozen":
            self.graph.freeze_norms()
        self.graph.train()
        hyp = {**DEFAULTS, "optimizer": "AdamW", "lr0": 0.01, "balance": method}
        factors = parameter_factors(self.graph, {"segment": 0.5, "detect": 1.0})
        self.optimizer = build_optimizer(self.graph, hyp, 0.0005, factors)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.balance: Balance = build_balance(self.graph, hyp, self.parameters, 0)
        self.turns = Turns(LENGTHS, "proportional")
        self.criteria = {name: head.criterion(hyp, 64) for name, head in self.graph.heads.items()}

    def step(self, number: int) -> dict[str, float]:
        """Make step ``number`` of one round and return the losses of its heads."""
        gradients, losses, scales = {}, {}, {}
        factors = self.balance.factors()
        # The generator's state, which dropout draws from, is what a run saves beside all this.
        torch.manual_seed(number)
        for name in [name for name in LENGTHS if name in self.turns.heads_in(number, 1)]:
            taken = [self.turns.taken(name, number + done) for done in (0, 1)]
            batch = labelled_batch(taken[0] % LENGTHS[name])
            targets = self.criteria[name].prepare(batch)
            parts = self.criteria[name](self.graph(batch.images, heads=[name])[name], targets, targets.normalizers)
            losses[name], scales[name] = sum(parts.values()), GAINS[name] * len(batch)
            assert taken[1] - taken[0] == self.turns.order(number % self.turns.rounds).count(name)
            loss = losses[name] * scales[name] * factors[name]
            gradients[name] = list(torch.autograd.grad(loss, self.parameters, allow_unused=True))
        for parameter, gradient in zip(self.parameters, self.balance.combine(gradients, number), strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.balance.update({name: loss.detach() for name, loss in losses.items()}, torch.zeros(()), scales)
        return {name: loss.item() for name, loss in losses.items()}

    def state(self) -> list[dict[str, torch.Tensor]]:
        found = [self.graph.state_dict(), optimizer_tensors(self.optimizer, self.graph), self.balance.state_dict()]
        return [{name: tensor.clone() for name, tensor in group.items()} for group in found]

    def load(self, state: list[dict[str, torch.Tensor]]) -> None:
        self.graph.load_state_dict(state[0])
        load_optimizer_tensors(self.optimizer, self.graph, state[1])
        self.balance.load_state_dict(state[2])


@pytest.mark.parametrize("norms", ["shared", "per-task", "frozen"])
@pytest.mark.parametrize("method", ["fixed", "uncertainty", "gradnorm", "pcgrad"])
def test_every_combination_learns_and_goes_on_exactly(method: str, norms: str, tiny_model: Path) -> None:
    run = SmallRun(tiny_model, method, norms)
    history: dict[str, list[float]] = {name: [] for name in LENGTHS}
    middle = None
    for number in range(24):
        if number == 11:
            middle = run.state()
        for name, loss in run.step(number).items():
            history[name].append(loss)
    for losses in history.values():
        # Untrained norms that stay frozen let little through.
        assert sum(losses[-4:]) < (0.999 if norms == "frozen" else 0.9) * sum(losses[:4])
    resumed = SmallRun(tiny_model, method, norms)
    resumed.load(middle)
    for number in range(11, 24):
        resumed.step(number)
    for ours, theirs in zip(run.state(), resumed.state(), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
