"""What of a model is quantised to whole numbers of eight bits, and what stays in float32.

Eight bits are for the middle of a network: convolutions of many channels, and what lies between them. The first ones,
which see the three colours of a picture, take longer in eight bits than in float32. The last ones give the numbers that
become boxes and probabilities, for which 256 steps are too few.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from utils.errors import ExportError, YolographError

TOKENS = 3
"""Dimensions of maps of tokens, (B, T, C). Their sums stay in float32: one runs through all blocks of a transformer,
and its range grows large beside what a block adds to it."""
NOTHING_TO_DO = (
    "--int8: between its first and its last products with weights the model has nothing that could be quantised; leave "
    "the option out"
)
"""Where all of a model is what ``left_in_float`` names."""


def left_in_float(sources: Mapping[str, Sequence[str]], weighted: Collection[str]) -> set[str]:
    """Return the operations of a model that stay in float32.

    These are everything in front of the first products with weights on every way, these products themselves, the last
    products on every way, and everything behind them, which is decoding.

    Args:
        sources: by the name of every operation, the names of those that it takes values from.
        weighted: those that multiply by weights.
    """
    consumers: dict[str, list[str]] = {name: [] for name in sources}
    for name, given in sources.items():
        for source in given:
            consumers[source].append(name)
    behind = _reached(weighted, consumers)
    before = _reached(weighted, sources)
    return set(sources) - (behind & before)


def is_weight(shape: Sequence[int]) -> bool:
    """Return whether a constant of a product is a learned table.

    A vector is none: it weighs the bins of a distribution to the side of a box, for instance, which is decoding.
    """
    return sum(side > 1 for side in shape) > 1


def _reached(starts: Iterable[str], steps: Mapping[str, Sequence[str]]) -> set[str]:
    """Return what one or more steps lead to."""
    reached: set[str] = set()
    waiting = [step for start in starts for step in steps[start]]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += steps[name]
    return reached


@contextmanager
def quantising_by(program: str) -> Iterator[None]:
    """Silence the log of a program that quantises, and turn whatever it raises into one sentence.

    Args:
        program: its name.

    Raises:
        ExportError: it raised something.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except YolographError:
        # Pictures are read while it runs.
        raise
    except Exception as error:  # These packages raise errors of their own that share no base class.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ExportError(f"--int8: {program} cannot quantise the model: {reason}") from error
    finally:
        logging.disable(before)
