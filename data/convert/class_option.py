"""The option ``--classes NEW=OLD,OLD`` of commands that join, rename and choose classes."""

from __future__ import annotations

from collections.abc import Sequence

from utils.errors import UsageError


def parse_classes(entries: Sequence[str]) -> dict[str, list[str] | str]:
    """Return what ``NEW=OLD,OLD`` entries say, as the key ``classes`` of a data YAML has it; ``NAME`` keeps a class.

    Raises:
        UsageError: an entry has no name or no class, or a name comes twice.
    """
    classes: dict[str, list[str] | str] = {}
    for entry in entries:
        name, sign, listed = (part.strip() for part in entry.partition("="))
        parts = [part.strip() for part in listed.split(",")] if sign else [name]
        if not name or not all(parts):
            raise UsageError(f"--classes has '{entry}'; write the new class, = and the old ones, such as car=car,truck")
        if name in classes:
            raise UsageError(f"--classes has '{name}' twice; join its classes, such as {name}=car,truck")
        classes[name] = "rest" if parts == ["rest"] else parts
    return classes
