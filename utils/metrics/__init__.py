"""Evaluators: what measures a head's results against a batch's labels.

Every evaluator is made from the class names and offers ``update(results, batch)``, ``compute()``, ``per_class()``,
``fitness()``, ``table(verbose)`` and ``plot(folder)``; ``state()`` and ``merge(state)`` join the parts of a test that
ran in several processes.
"""

from __future__ import annotations

from utils.metrics.box_evaluator import BoxEvaluator
from utils.metrics.mask_evaluator import MaskEvaluator

EVALUATORS: dict[str, type] = {"boxes": BoxEvaluator, "masks": MaskEvaluator}

__all__ = ["EVALUATORS", "BoxEvaluator", "MaskEvaluator"]
