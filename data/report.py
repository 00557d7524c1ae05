"""What was found when a data set was scanned, in one line."""

from __future__ import annotations

from dataclasses import dataclass, field

from utils.errors import DataError

_SHOWN = 3


@dataclass
class DataReport:
    """What a scan of one split of one task found.

    Attributes:
        name: what was scanned, for instance ``detect train``.
        listed: image files of the split.
        found: usable images with at least one object, or with a mask.
        background: usable images without any object.
        objects: boxes kept.
        duplicates: rows left out because they repeat another row of their file.
        degenerate: rows left out because their box has no area.
        corrupt: images left out because they cannot be read.
        reasons: why, one per entry of ``corrupt``.
        missing_masks: images left out because they have no mask.
        searched: where the first label file or mask was looked for.
    """

    name: str
    listed: int = 0
    found: int = 0
    background: int = 0
    objects: int = 0
    duplicates: int = 0
    degenerate: int = 0
    corrupt: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    missing_masks: list[str] = field(default_factory=list)
    searched: str = ""

    @property
    def usable(self) -> int:
        """Images that can be loaded."""
        return self.found + self.background

    def __str__(self) -> str:
        """One line: the counts, then whatever is wrong."""
        text = f"{self.name}: {self.usable} of {self.listed} images usable"
        if self.objects or self.background:
            text += f", {self.objects} objects, {self.background} background images"
        if self.duplicates:
            text += f", {self.duplicates} duplicate rows left out"
        if self.degenerate:
            text += f", {self.degenerate} rows without area left out"
        if self.corrupt:
            text += f", {len(self.corrupt)} unreadable images left out ({_first(self.reasons)})"
        if self.missing_masks:
            text += f", {len(self.missing_masks)} images without mask left out ({_first(self.missing_masks)})"
        if self.found == 0:
            text += f"; WARNING: 0 of {self.listed} images have labels; looked for {self.searched}"
        return text

    def require_usable(self) -> None:
        """Raise DataError if no image can be used."""
        if self.usable:
            return
        if self.missing_masks and not self.corrupt:
            raise DataError(
                f"{self.name}: none of the {self.listed} images has a mask (looked for {self.searched}); put the masks "
                "there or mend the key `masks` of the data YAML"
            )
        fault = self.reasons[0] if self.reasons else self.missing_masks[0]
        raise DataError(f"{self.name}: none of the {self.listed} images can be used; the first: {fault}")


def _first(entries: list[str]) -> str:
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return "; ".join(entries[:_SHOWN]) + more
