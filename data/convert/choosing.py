"""Which classes a converted set has, and which of the source's classes become them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.class_map import ClassMap, SharedClasses, Vocabulary, read_class_map
from data.class_names import MOST_MASK_CLASSES
from data.convert.areas import IGNORED
from data.convert.options import Options
from utils.errors import UsageError, did_you_mean

_OPTION = Path("--classes")


@dataclass(frozen=True)
class Choice:
    """The classes of a result.

    Attributes:
        names: by index.
        class_map: from the classes of the source.
        warnings: a line for every class that was asked for and that no object has.
    """

    names: list[str]
    class_map: ClassMap
    warnings: list[str]


def choose_classes(known: Sequence[str], met: Collection[str], options: Options, fixed: Sequence[str] = ()) -> Choice:
    """Choose the classes of a result.

    Args:
        known: the classes of the source; empty where they show only in its labels.
        met: the classes that its objects have, for that case.
        options: whose ``names`` or ``classes`` choose; without them all classes stay.
        fixed: classes that the format of the result brings along; others have no place in it.

    Raises:
        DataError: ``classes`` names a class that the source does not have, or one twice.
        UsageError: ``names`` holds a class that the source does not have.
    """
    vocabulary = Vocabulary(list(known) or sorted(met), "class of the source", open=not known)
    if options.classes is not None:
        names, class_map = read_class_map(
            _OPTION, "classes", options.classes, vocabulary, SharedClasses(list(fixed)) if fixed else None
        )
        return Choice(names, class_map, [] if known else _unmet(class_map.names, met))
    wanted = options.names
    if wanted is None:
        names = list(fixed) or list(vocabulary.names)
        return Choice(names, ClassMap.by_name(vocabulary.names, names), [])
    unknown = next((name for name in wanted if known and name not in known), None)
    if unknown is not None:
        raise UsageError(f"--names has '{unknown}', which is no class of the source.{did_you_mean(unknown, known)}")
    names = list(fixed or wanted)
    return Choice(names, ClassMap.by_name(wanted, names), [] if known else _unmet(wanted, met))


def check_mask_classes(names: Sequence[str]) -> None:
    """Make sure that a mask can hold so many classes.

    Raises:
        UsageError: it cannot.
    """
    if len(names) > MOST_MASK_CLASSES:
        raise UsageError(
            f"{len(names)} classes do not fit into a mask, which holds {MOST_MASK_CLASSES}; choose some of them, or "
            "join them with --classes"
        )


def with_ignored(choice: Choice) -> ClassMap:
    """Return the map with the label of areas that do not count as one more class behind the others."""
    known = choice.class_map
    return replace(known, names=(*known.names, IGNORED), targets=(*known.targets, len(choice.names)))


def _unmet(names: Sequence[str], met: Collection[str]) -> list[str]:
    # The same word in other letters is nearest, however many of them differ.
    others = {name.casefold(): name for name in met}
    near = {name: did_you_mean(others.get(name.casefold(), name), met) for name in names}
    return [f"WARNING: no object is called '{name}'.{near[name]}" for name in names if name not in met]
