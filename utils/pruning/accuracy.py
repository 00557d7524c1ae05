"""What a model is worth on data before and after pruning."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping

import torch

from data.dataset import TaskDataset
from models.fusing import fuse_graph
from models.graph import Graph
from models.inference import as_inference
from utils.testing.datasets import open_test_data
from utils.testing.report import SHOWN
from utils.text_table import format_table
from utils.validation import build_tests, measured, run_head_test

Metrics = dict[str, dict[str, float]]
"""By head, the metrics that its evaluator reports, 0..1, without those that no label can tell."""


class Accuracy:
    """Measures forms of one model on the same pictures, as ``test.py`` does.

    Args:
        graph: one of the forms; says which heads there are.
        options: command-line values: data, split, heads, sizes, batches.
        device: where to measure.

    Raises:
        DataError: the data do not fit the model.
        UsageError: an option is about a head that the model does not have.
    """

    def __init__(self, graph: Graph, options: argparse.Namespace, device: torch.device) -> None:
        self.device = device
        self.datasets: dict[str, TaskDataset] = open_test_data(as_inference(graph), options)
        self.tests = build_tests(
            graph, self.datasets, options.img_size, options.base_size, options.batch_size, options.workers
        )

    def of(self, graph: Graph) -> Metrics:
        """Return the metrics of a form of the model; the graph itself stays as it is.

        Args:
            graph: in eval mode, on the CPU.
        """
        model = as_inference(fuse_graph(copy.deepcopy(graph)).to(self.device))
        found = {}
        for name, test in self.tests.items():
            found[name] = measured(run_head_test(model, name, test, self.device, None).compute())
            test.report(test.loader.skipped)
        return found


def accuracy_table(before: Mapping[str, Mapping[str, float]], after: Mapping[str, Mapping[str, float]]) -> str:
    """Return the metrics of all heads before and after, and what they changed by, as an aligned text table."""
    lines = [
        [f"{head} {title}", f"{found[name]:.4f}", f"{after[head][name]:.4f}", f"{after[head][name] - found[name]:+.4f}"]
        for head, found in before.items()
        for name, title in SHOWN.items()
        if name in found
    ]
    return format_table(["metric", "before", "after", "change"], lines)
