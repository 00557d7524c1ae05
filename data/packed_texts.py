"""Many texts in two arrays: a million names cost their letters, and worker processes share them without copying.

A list of texts is copied page by page by every forked worker that looks at it, because Python counts references within
each text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

_ENCODING = ("utf-8", "surrogateescape")


class PackedTexts(Sequence[str]):
    """A sequence of texts that does not change.

    Args:
        texts: to pack; names of files may hold bytes that are no UTF-8, as ``os.fsdecode`` gives them.
    """

    def __init__(self, texts: Iterable[str] = ()):
        texts = list(texts)
        joined = "".join(texts)
        if not joined.isascii():
            texts = [text.encode(*_ENCODING) for text in texts]
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        self._bytes = np.frombuffer(joined.encode(*_ENCODING), np.uint8)
        self._ends = np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return one text, or a list of those of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} texts")
        return self._bytes[self._ends[index] : self._ends[index + 1]].tobytes().decode(*_ENCODING)

    def __iter__(self) -> Iterator[str]:
        """Give the texts in order, much faster than one by one."""
        data, ends = self._bytes.tobytes(), self._ends.tolist()
        return (data[start:end].decode(*_ENCODING) for start, end in pairwise(ends))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} texts: {shown}{', ...' if len(self) > 3 else ''}>"
