"""Finds what the entries of a data YAML name: images, folders of labels and masks, annotation files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from data.task_data import SPLITS
from utils.errors import DataError


class Places:
    """Resolves the entries of one YAML.

    Args:
        path: of the YAML, for messages.
        root: that its relative entries start from.
        checked: splits whose folders and files must exist.
        made_by: a command that puts the set in place, as the beginning of a mend.

    Attributes:
        path: as above.
        root: as above.
        checked: as above.
    """

    def __init__(self, path: Path, root: Path, checked: frozenset[str], made_by: str = ""):
        self.path, self.root, self.checked, self._made_by = path, root, checked, made_by

    def existing(self, entry: str, key: str, split: str) -> Path:
        """Resolve an entry against the root, then against the working folder.

        Args:
            entry: a path.
            key: that names it, for messages.
            split: that it belongs to; only those of ``checked`` have to exist.

        Raises:
            DataError: nothing is there.
        """
        given = Path(entry).expanduser()
        candidates = list(dict.fromkeys([self.root / given, given]))
        for candidate in candidates:
            if candidate.exists():
                return candidate
        if split not in self.checked:
            return candidates[0]
        searched = " and ".join(str(candidate.resolve()) for candidate in candidates)
        raise DataError(
            f"{self.path}: `{key}: {entry}` does not exist (searched {searched}); {self._made_by}mend the entry or "
            "the key `path`"
        )

    def splits(self, block: Mapping[str, Any], prefix: str) -> dict[str, list[Path]]:
        """Return the entries of every split of a block.

        Raises:
            DataError: an entry does not exist or is no text.
        """
        splits = {}
        for split in SPLITS:
            value = block.get(split)
            if value is None:
                continue
            entries = value if isinstance(value, list) else [value]
            if not entries or not all(isinstance(entry, str) for entry in entries):
                raise DataError(
                    f"{self.path}: `{prefix}{split}` is {value!r}; give a folder, a list file or a list of them"
                )
            splits[split] = [self.existing(entry, prefix + split, split) for entry in entries]
        return splits

    def require_splits(self, block: Mapping[str, Any], prefix: str) -> None:
        """Make sure that there is something to train on where training is asked for, and something at all.

        Raises:
            DataError: there is not.
        """
        given = [split for split in SPLITS if block.get(split) is not None]
        if "train" not in given and ("train" in self.checked or not given):
            raise DataError(f"{self.path}: `{prefix}train` is missing; give the folder of the training images")

    def folders(self, value: Any, splits: Collection[str], key: str) -> dict[str, Path | None]:
        """Return the folder of labels or masks of every split, None where the YAML leaves it to the format.

        Args:
            value: None, one folder, or one folder per split.
            splits: those with images.
            key: such as ``segment.masks``.

        Raises:
            DataError: the value is neither, a folder does not exist, or a split has no images.
        """
        if value is None:
            return {split: None for split in splits}
        if isinstance(value, str):
            value = {split: value for split in splits}
        if not isinstance(value, Mapping) or not all(isinstance(folder, str) for folder in value.values()):
            raise DataError(f"{self.path}: `{key}` is {value!r}; give one folder, or one folder per split")
        self._require_images(value, splits, key)
        return {split: self.existing(value[split], key, split) if split in value else None for split in splits}

    def files(self, value: Any, splits: Collection[str], key: str, what: str) -> dict[str, Path]:
        """Return the annotation file of every split.

        Args:
            value: one file per split.
            splits: those with images; each needs a file.
            key: such as ``detect.annotations``.
            what: the files are, such as ``COCO file``.

        Raises:
            DataError: the value is no such mapping, a file does not exist, or files and images do not go together.
        """
        if not isinstance(value, Mapping) or not all(isinstance(file, str) for file in value.values()):
            raise DataError(
                f"{self.path}: `{key}` is {value!r}; give one {what} per split, such as "
                "{train: annotations/train.json, val: annotations/val.json}"
            )
        self._require_images(value, splits, key)
        for split in splits:
            if split not in value:
                raise DataError(f"{self.path}: `{key}.{split}` is missing; give its {what}")
        return {split: self.existing(value[split], f"{key}.{split}", split) for split in splits}

    def _require_images(self, value: Mapping[str, str], splits: Collection[str], key: str) -> None:
        for split in value:
            if split not in splits:
                images = f"{key.rpartition('.')[0]}.{split}"
                raise DataError(f"{self.path}: `{key}.{split}` has no images; add `{images}`")
