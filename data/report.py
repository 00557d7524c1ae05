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
        with_keypoints: how many of them have a labelled keypoint; None where objects have no keypoints.
        crowds: how many of them stand for many objects that are not told apart.
        duplicates: rows left out because they repeat another row of their file.
        degenerate: rows left out because their box has no area.
        corrupt: images left out because they cannot be read.
        reasons: why, one per entry of ``corrupt``.
        missing_masks: images left out because they have no mask.
        missing_labels: images left out because they have no label file, where every image should have one.
        missing_images: images left out because an annotation file lists them and they are not there.
        other_sizes: images of another size than their labels say.
        other_classes: annotations left out because the data YAML does not name their category.
        left_out: what else the labels hold that is no object, such as ``{"circles": 2}``.
        warnings: whatever is likely a mistake, a sentence each.
        unlisted: annotations left out because their file does not list their image.
        untrained_objects: objects without a labelled keypoint that training leaves out.
        untrained_crowds: crowds that training leaves out.
        untrained_images: images without any object that training leaves out.
        untrained_small: images that training leaves out because a side is shorter than the recipe wants.
        searched: where the first label file or mask was looked for.
    """

    name: str
    listed: int = 0
    found: int = 0
    background: int = 0
    objects: int = 0
    with_keypoints: int | None = None
    crowds: int = 0
    duplicates: int = 0
    degenerate: int = 0
    corrupt: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    missing_masks: list[str] = field(default_factory=list)
    missing_labels: list[str] = field(default_factory=list)
    missing_images: list[str] = field(default_factory=list)
    other_sizes: list[str] = field(default_factory=list)
    other_classes: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unlisted: int = 0
    untrained_objects: int = 0
    untrained_crowds: int = 0
    untrained_images: int = 0
    untrained_small: int = 0
    searched: str = ""

    @property
    def usable(self) -> int:
        """Images that can be loaded."""
        return self.found + self.background

    def __str__(self) -> str:
        """One line: the counts, then whatever is wrong."""
        text = f"{self.name}: {self.usable} of {self.listed} images usable"
        if self.objects or self.background:
            text += f", {self.objects} objects{self._kinds()}, {self.background} background images"
        text += "".join(f", {count} {what} left out" for count, what in self._left_out_rows() if count)
        if self.other_sizes:
            text += f", {len(self.other_sizes)} images of another size than annotated ({_first(self.other_sizes)})"
        if self.missing_images:
            text += f", {len(self.missing_images)} missing images left out ({_first(self.missing_images)})"
        if self.corrupt:
            text += f", {len(self.corrupt)} unreadable images left out ({_first(self.reasons)})"
        if self.missing_masks:
            text += f", {len(self.missing_masks)} images without mask left out ({_first(self.missing_masks)})"
        if self.missing_labels:
            text += f", {len(self.missing_labels)} images without label file left out ({_first(self.missing_labels)})"
        untrained = [text for count, text in self._untrained() if count]
        if untrained:
            text += f"; not trained on: {', '.join(untrained)}"
        if self.found == 0:
            text += f"; WARNING: 0 of {self.listed} images have labels; looked for {self.searched}"
        return text + "".join(f"; WARNING: {warning}" for warning in self.warnings)

    def _kinds(self) -> str:
        kinds = [] if self.with_keypoints is None else [f"{self.with_keypoints} with labelled keypoints"]
        kinds += [_counted(self.crowds, "crowd")] if self.crowds else []
        return f" ({', '.join(kinds)})" if kinds else ""

    def _left_out_rows(self) -> list[tuple[int, str]]:
        return [
            (self.duplicates, "duplicate rows"),
            (self.degenerate, "rows without area"),
            (self.other_classes, "annotations of other categories"),
            (self.unlisted, "annotations of images that are not listed"),
            *((count, what) for what, count in sorted(self.left_out.items())),
        ]

    def _untrained(self) -> list[tuple[int, str]]:
        objects, crowds = self.untrained_objects, self.untrained_crowds
        images, small = self.untrained_images, self.untrained_small
        return [
            (objects, f"{_counted(objects, 'object')} without labelled keypoints"),
            (crowds, _counted(crowds, "crowd")),
            (images, f"{_counted(images, 'image')} without an object"),
            (small, f"{_counted(small, 'image')} smaller than the recipe's drop_smaller"),
        ]

    def require_usable(self) -> None:
        """Raise DataError if no image can be used."""
        if self.usable:
            return
        if self.missing_masks and not self.corrupt:
            raise DataError(
                f"{self.name}: none of the {self.listed} images has a mask (looked for {self.searched}); put the masks "
                "there or mend the key `masks` of the data YAML"
            )
        if self.missing_labels and not self.corrupt:
            raise DataError(
                f"{self.name}: none of the {self.listed} images has a label file (looked for {self.searched}); put "
                "the files there or mend the key `labels` of the data YAML"
            )
        if self.untrained_images:
            raise DataError(
                f"{self.name}: none of the {self.listed} images has an object to train on (looked for {self.searched})"
                "; label some, or write `background: true` (poses) or the recipe's `drop_empty: false` to train on "
                "images without an object"
            )
        if self.untrained_small:
            raise DataError(
                f"{self.name}: all of the {self.listed} images are smaller than the recipe's drop_smaller; lower it"
            )
        if self.missing_images and not self.corrupt:
            raise DataError(
                f"{self.name}: none of the {self.listed} images is there (looked for {self.missing_images[0]}); mend "
                "the folder of the images in the data YAML"
            )
        fault = [*self.reasons, *self.missing_masks, *self.missing_labels][0]
        raise DataError(f"{self.name}: none of the {self.listed} images can be used; the first: {fault}")


def _first(entries: list[str]) -> str:
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return "; ".join(entries[:_SHOWN]) + more


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
