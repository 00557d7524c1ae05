"""Which head gives a batch when: the turns of heads whose data sets are of unequal length."""

from __future__ import annotations

from collections.abc import Mapping

from utils.errors import ModelError, did_you_mean
from utils.recipe import CHOICES

ALTERNATE, PROPORTIONAL = "alternate", "proportional"
RULES = CHOICES["turns"]
LONGEST, SHORTEST = "longest", "shortest"


class Turns:
    """The order in which heads give their batches, as plain functions of the number of the round.

    Rounds are counted from 0 through the whole run; nothing has to be restored when a run goes on at any of them.

    ``alternate``: in every round every head gives one batch. An epoch is as many rounds as the recipe key ``epoch``
    says, and data sets go on from pass to pass with no regard to where epochs begin.

    ``proportional``: heads give batches in proportion to how many they have, as evenly interleaved as whole batches
    can be: next comes the head that is furthest behind its share. An epoch is one pass over every data set. A round has
    as many batches as there are heads, the last one of an epoch maybe fewer.

    Args:
        lengths: batches per pass of every head, 1 or more, in the order of the heads.
        rule: recipe key ``turns``.
        epoch_rule: recipe key ``epoch``: ``longest`` or ``shortest`` data set, or the name of a head.

    Attributes:
        rounds: rounds per epoch.

    Raises:
        ModelError: a rule is not one of those, or the two do not go together.
        ValueError: a head has no batch.
    """

    def __init__(self, lengths: Mapping[str, int], rule: str = ALTERNATE, epoch_rule: str = LONGEST) -> None:
        if min(lengths.values()) < 1:
            raise ValueError("every head needs a batch at least")
        if rule not in RULES:
            raise ModelError(
                f"recipe key 'turns' is '{rule}', but must be one of {', '.join(RULES)}.{did_you_mean(rule, RULES)}"
            )
        self._names = tuple(lengths)
        if rule == ALTERNATE:
            self.rounds = _rounds_to_alternate(lengths, epoch_rule)
            self._orders = [self._names]
        else:
            if epoch_rule != LONGEST:
                raise ModelError(
                    f"recipe key 'epoch' is '{epoch_rule}', but with turns: proportional an epoch goes through every "
                    "data set once; leave it out"
                )
            line, share = _interleaved(lengths), len(lengths)
            self._orders = [tuple(line[i : i + share]) for i in range(0, len(line), share)]
            self.rounds = len(self._orders)
        self._given = _running_counts(self._orders, self._names)

    def order(self, round_in_epoch: int) -> tuple[str, ...]:
        """Return the heads of a round in order, one entry per batch.

        Args:
            round_in_epoch: 0 .. ``rounds`` - 1.
        """
        if not 0 <= round_in_epoch < self.rounds:
            raise IndexError(f"an epoch has the rounds 0 to {self.rounds - 1}, not {round_in_epoch}")
        return self._orders[round_in_epoch % len(self._orders)]

    def taken(self, name: str, rounds_done: int) -> int:
        """Return how many batches a head has given after so many rounds of the whole run."""
        # The orders begin anew after so many rounds: those of an epoch, or the single one of alternating heads.
        repeats, rest = divmod(rounds_done, len(self._orders))
        counts = self._given[name]
        return repeats * counts[-1] + counts[rest]

    def heads_in(self, first_round: int, count: int) -> set[str]:
        """Return the heads that give a batch in the ``count`` rounds from ``first_round`` of the run on."""
        return {n for n in self._names if self.taken(n, first_round + count) > self.taken(n, first_round)}


def _rounds_to_alternate(lengths: Mapping[str, int], rule: str) -> int:
    """Return how many rounds make an epoch when every head gives a batch in each."""
    if rule in lengths:
        return lengths[rule]
    if rule not in (LONGEST, SHORTEST):
        choices = (LONGEST, SHORTEST, *lengths)
        raise ModelError(
            f"recipe key 'epoch' is '{rule}', but must be one of {', '.join(choices)}.{did_you_mean(rule, choices)}"
        )
    return max(lengths.values()) if rule == LONGEST else min(lengths.values())


def _interleaved(lengths: Mapping[str, int]) -> list[str]:
    """Return every head as often as it has batches, each time the one that is furthest behind its share.

    Shares are compared as whole numbers, so the order is the same on every machine; the earlier head goes first where
    two are equally far behind.
    """
    total = sum(lengths.values())
    left = dict(lengths)
    behind = dict.fromkeys(lengths, 0)
    line = []
    for _ in range(total):
        for name, length in lengths.items():
            behind[name] += length
        chosen = max((name for name in lengths if left[name]), key=behind.__getitem__)
        behind[chosen] -= total
        left[chosen] -= 1
        line.append(chosen)
    return line


def _running_counts(orders: list[tuple[str, ...]], names: tuple[str, ...]) -> dict[str, list[int]]:
    """Return for every head how many batches it has given before each round, and after the last one."""
    counts = {name: [0] for name in names}
    for order in orders:
        for name, running in counts.items():
            running.append(running[-1] + order.count(name))
    return counts
