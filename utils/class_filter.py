"""Which classes of objects to keep, chosen by index or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from utils.errors import UsageError, did_you_mean

MOST_SHOWN = 100
"""Class names that a message lists."""


def kept_classes(
    names: Mapping[str, Sequence[str]], indices: Sequence[int] | None, wanted: Sequence[str] | None
) -> dict[str, tuple[int, ...] | None]:
    """Return the class indices to keep of every head that finds objects.

    Args:
        names: class names of these heads, at least one.
        indices: class indices to keep; of a head with fewer classes, those that it has.
        wanted: class names to keep; a head without a class of that name keeps none for it.

    Returns:
        Per head the indices, ascending, or None for all where nothing was chosen at all.

    Raises:
        UsageError: no head has such an index or such a name.
    """
    if not indices and not wanted:
        return dict.fromkeys(names)
    most = max(map(len, names.values()))
    for index in indices or ():
        if not 0 <= index < most:
            raise UsageError(f"--classes {index}: the model's classes are 0 to {most - 1}")
    known = list(dict.fromkeys(name for of_head in names.values() for name in of_head))
    for name in wanted or ():
        if name not in known:
            more = f" and {len(known) - MOST_SHOWN} more" if len(known) > MOST_SHOWN else ""
            raise UsageError(
                f"--class-names '{name}': the model finds no such objects.{did_you_mean(name, known)} "
                f"It finds {', '.join(known[:MOST_SHOWN])}{more}"
            )
    return {
        head: tuple(i for i, name in enumerate(of_head) if i in (indices or ()) or name in (wanted or ()))
        for head, of_head in names.items()
    }
