"""Which class of a set each class of its label files becomes: the key ``classes`` of a data YAML."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import DataError, did_you_mean

LEFT_OUT = -1
REST = "rest"
"""What stands for all classes of the label files that no other entry of ``classes`` has."""

_EXAMPLE = "{vehicle: [car, truck], person: [person, rider]}"


@dataclass(frozen=True)
class ClassMap:
    """From the classes of label files to those of a set.

    Attributes:
        names: what the files call their classes, by index where they hold indices.
        targets: class of each in the set, -1 where it is left out.
        rest: class of every other name that the files may have, -1 to leave it out.
    """

    names: tuple[str, ...]
    targets: tuple[int, ...]
    rest: int = LEFT_OUT

    @classmethod
    def same(cls, names: Iterable[str]) -> ClassMap:
        """Return the map of files that call the classes as the set does."""
        names = tuple(names)
        return cls(names, tuple(range(len(names))))

    @classmethod
    def by_name(cls, names: Iterable[str], classes: Sequence[str]) -> ClassMap:
        """Return the map from the files' ``names`` to the ``classes`` that are called the same; others are left out."""
        names, place = tuple(names), {name: index for index, name in enumerate(classes)}
        return cls(names, tuple(place.get(name, LEFT_OUT) for name in names))

    def merged(self) -> ClassMap:
        """Return the map with all classes that are kept as one, number 0."""
        return replace(self, targets=tuple(min(target, 0) for target in self.targets), rest=min(self.rest, 0))

    def of_names(self, names: Sequence[str]) -> np.ndarray:
        """Return (n,) int64: the class of each of the files' names, -1 where it is left out."""
        return np.array([self._place.get(name, self.rest) for name in names], np.int64)

    @functools.cached_property
    def table(self) -> np.ndarray:
        """(len(names),) int64: the class of each of the files' indices, -1 where it is left out."""
        return np.array(self.targets, np.int64)

    @functools.cached_property
    def _place(self) -> dict[str, int]:
        return dict(zip(self.names, self.targets, strict=True))


@dataclass(frozen=True)
class Vocabulary:
    """The classes that label files may have.

    Attributes:
        names: their names, by index where the files hold indices; of open files those that are known.
        what: they are, for messages: ``class of `detect.names```.
        open: the files may have others, whose names show only when they are read.
        indexed: the files hold indices, so that a class may be given by its number.
        partial: the map is that of several sources, and names that these files lack are passed over.
    """

    names: Sequence[str]
    what: str
    open: bool = False
    indexed: bool = False
    partial: bool = False


@dataclass(frozen=True)
class SharedClasses:
    """The classes of a set with several sources.

    Attributes:
        names: of the set, by index.
        mapped: the set has one map for all of its sources, each of which need not have all classes that it names.
    """

    names: list[str]
    mapped: bool = False


def read_class_map(
    path: Path, key: str, value: Any, vocabulary: Vocabulary, shared: SharedClasses | None = None
) -> tuple[list[str], ClassMap]:
    """Read ``classes``: per class of the set one class, or a list of classes, of the label files.

    Args:
        path: of the YAML, for messages.
        key: such as ``detect.classes``.
        value: what the YAML holds there. The word ``rest``, alone, stands for all classes that no list has; without it
            they are left out.
        vocabulary: what the files may have.
        shared: the classes of the set where these are the labels of one of its sources; None to take the keys.

    Returns:
        The names of the set's classes, and the map to them.

    Raises:
        DataError: the value is no such mapping, a class is unknown, or one is used twice; the message names the class.
    """
    if not isinstance(value, Mapping) or not value:
        raise DataError(f"{path}: `{key}` is {value!r}; give lists by the name of a class, such as {_EXAMPLE}")
    keys = [_checked_name(path, key, name) for name in value]
    repeated = next((name for i, name in enumerate(keys) if name in keys[:i]), None)
    if repeated is not None:
        raise DataError(f"{path}: `{key}` has the class '{repeated}' twice; join their lists")
    known = list(keys if shared is None else shared.names)
    unknown = next((name for name in keys if name not in known), None)
    if unknown is not None:
        raise DataError(f"{path}: `{key}` has '{unknown}', which is no class of the set.{did_you_mean(unknown, known)}")
    target_of: dict[str, int] = {}
    rest = LEFT_OUT
    for name, given in zip(keys, value.values(), strict=True):
        target, place = known.index(name), f"{key}.{name}"
        if given in (REST, [REST]) and REST not in vocabulary.names:
            if rest != LEFT_OUT:
                raise DataError(f"{path}: `{place}` and `{key}.{known[rest]}` are both {REST}; keep one of them")
            rest = target
            continue
        for source in _sources(path, place, given, vocabulary):
            if source in target_of:
                first = known[target_of[source]]
                raise DataError(f"{path}: `{key}` gives '{source}' to '{first}' and to '{name}'; keep one of them")
            target_of[source] = target
    # Of open files only what is written here is known; to others no name can be added.
    names = [*vocabulary.names, *(name for name in target_of if vocabulary.open and name not in vocabulary.names)]
    return known, ClassMap(tuple(names), tuple(target_of.get(name, rest) for name in names), rest)


def shared_map(
    path: Path, prefix: str, names: Sequence[str] | None, shared: SharedClasses
) -> tuple[list[str], ClassMap | None]:
    """Return the classes of a set, and the map to them from one of its sources that has no ``classes``.

    Args:
        path: of the YAML, for messages.
        prefix: of the source's keys, such as ``detect.train[0].``.
        names: of the source's classes; None where only reading shows them, and they are called as in the set.
        shared: the classes of the set.

    Raises:
        DataError: no class of the source is called as one of the set.
    """
    if names is None or list(names) == shared.names:
        return shared.names, None
    if not set(names) & set(shared.names):
        raise DataError(
            f"{path}: `{prefix}names`: none of {', '.join(names)} is a class of the set, which has "
            f"{', '.join(shared.names)}; name them alike or map them by `{prefix}classes`"
        )
    return shared.names, ClassMap.by_name(names, shared.names)


def _sources(path: Path, place: str, given: Any, vocabulary: Vocabulary) -> list[str]:
    """Return the files' names in one entry of ``classes``."""
    entries = given if isinstance(given, list) else [given]
    if not entries:
        raise DataError(f"{path}: `{place}` is empty; list the classes that become it, or drop it")
    return [_source(path, place, entry, vocabulary) for entry in entries]


def _source(path: Path, place: str, entry: Any, vocabulary: Vocabulary) -> str:
    if vocabulary.indexed and isinstance(entry, int) and not isinstance(entry, bool):
        if not 0 <= entry < len(vocabulary.names):
            raise DataError(
                f"{path}: `{place}` has {entry}, but the labels have 0..{len(vocabulary.names) - 1}; mend it"
            )
        return vocabulary.names[entry]
    name = _checked_name(path, place, entry)
    if not vocabulary.open and not vocabulary.partial and name not in vocabulary.names:
        hint = did_you_mean(name, vocabulary.names)
        raise DataError(f"{path}: `{place}` has '{name}', which is no {vocabulary.what}; name one.{hint}")
    return name


def _checked_name(path: Path, place: str, name: Any) -> str:
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        raise DataError(f"{path}: `{place}` holds {name!r}, which is no text; put the name in quotes")
    return str(name)
