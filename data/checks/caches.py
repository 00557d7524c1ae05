"""The caches beside the labels of a set: which of them no longer hold, and making them anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.checks.finding import Finding
from data.checks.listing import ListedPart, ListedSplit
from data.coco_cache import SUFFIX as COCO_SUFFIX
from data.image_cache import StoreName, files_key
from data.label_cache import cache_file, cache_folder, content_key, load_index, set_name, stamp_of_files
from data.picture_store import remove_unused
from data.split_index import open_split
from utils.errors import DataError
from utils.files import remove_leftovers


@dataclass
class MendedCaches:
    """What was done to the caches of a set.

    Attributes:
        removed: files.
        freed: bytes that they took.
        scanned: splits whose labels are kept now.
    """

    removed: list[Path] = field(default_factory=list)
    freed: int = 0
    scanned: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line."""
        kept = ", ".join(self.scanned) or "no split"
        return f"caches: {len(self.removed)} files removed ({self.freed / 1e6:.1f} MB); scanned and kept: {kept}"


def stale_findings(listed: Iterable[ListedSplit]) -> list[Finding]:
    """Return a finding for every kept scan of a split that its files no longer fit, or that is damaged."""
    found = []
    for entry in listed:
        for part in entry.parts:
            file = _file(part)
            if file.exists() and load_index(file, _key(part)) is None:
                found.append(Finding("cache-stale", entry.where, f"{file}: is of other files or damaged"))
    return found


def _file(part: ListedPart) -> Path:
    return cache_file(cache_folder(part.searched), part.data, part.split)


def _key(part: ListedPart) -> str:
    labels = part.labels if part.has_own_labels else [str(part.searched)]
    return content_key(part.data, stamp_of_files(part.images), stamp_of_files(labels))


def mend_caches(listed: Sequence[ListedSplit]) -> MendedCaches:
    """Remove what no longer holds from the cache folders of a set, and scan anew what can be scanned.

    Kept scans that are not those of the set as it is now go, whoever made them: another data YAML with labels in the
    same folder scans anew when it is used next. Decoded pictures go where they are of other files and nobody uses them.
    Nothing may be trained on the set meanwhile.
    """
    mended = MendedCaches()
    parts = [part for entry in listed for part in entry.parts]
    current = {file for part in parts if load_index(file := _file(part), _key(part)) is not None}
    for folder in dict.fromkeys(cache_folder(part.searched) for part in parts):
        if not folder.is_dir():
            continue
        for file in sorted(folder.glob("*.npz")):
            if file not in current and not file.name.endswith(COCO_SUFFIX):
                mended.freed += file.stat().st_size
                file.unlink()
                mended.removed.append(file)
        remove_leftovers(folder)
    for entry in listed:
        try:
            opened = open_split(entry.data, entry.split)
        except DataError:
            # The examination names what is wrong with it.
            continue
        mended.scanned.append(entry.where)
        name = StoreName(set_name(entry.data, entry.split), files_key(opened.image_stamp, opened.index.kept), "")
        if opened.folder.is_dir():
            outdated = {path: path.stat().st_blocks * 512 for path in name.outdated(opened.folder)}
            removed = remove_unused(list(outdated))
            mended.removed += removed
            mended.freed += sum(outdated[path] for path in removed)
    return mended
