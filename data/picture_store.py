"""Decoded pictures in one flat file that many processes map, fill and read at once."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import secrets
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

import numpy as np

try:
    import fcntl
except ModuleNotFoundError:  # Windows does not have it.
    fcntl = None

_MAGIC = b"yolograph pictures 1\n"
_PAGE = 4096
_BLOCK = 512
_CLEAN = b"synced"


def _name_of_boot() -> bytes | None:
    """Return what tells this start of this machine from all others; None where the system does not say."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    return None


_KNOWN_BOOT = _name_of_boot()
_BOOT = _KNOWN_BOOT or secrets.token_hex(16).encode()
_log = logging.getLogger("yolograph")


class PictureStore:
    """Pictures of known shapes, written once each, by whichever process decodes one first.

    The file is a page with the header, a byte per picture that says whether it is whole, and the pixels. A picture's
    byte is written after its pixels, so a killed process leaves a picture that is not there yet, never half of one.
    Two processes that write the same picture write the same bytes. The kernel may bring pages to the disk in another
    order: what was written since the file was last closed in order is forgotten when the machine was restarted since.
    Nor do two machines that share a disk see each other's writes in order, so a file serves one machine at a time.

    Every user of the file holds a shared lock on it, which ends with the process, however it ends. Whoever gets the
    exclusive lock is alone: that is how the last user knows that it may remove a file in memory, and how a leftover is
    told from a file in use.

    Args:
        shapes: (n, 2) or (n, 3) shapes of the pictures, uint8.
        path: of the file; made if absent. None takes memory without a name, which only forked processes share.
        remove_at_end: the last user removes the file when it ends.

    Raises:
        OSError: the file cannot be made, or another machine uses it.
    """

    def __init__(self, shapes: np.ndarray, path: Path | None = None, remove_at_end: bool = False):
        self.shapes, self.path, self.remove_at_end = np.asarray(shapes, np.int64), path, remove_at_end
        self._open()

    def _open(self) -> None:
        ends, self._pixels_at, total = _layout(self.shapes)
        self._starts = ends - self.shapes.prod(axis=1)
        self._file = nameless_file() if self.path is None else _open_shared(self.path, total, len(self.shapes))
        if self.path is None:
            os.ftruncate(self._file, total)
        mapped = mmap.mmap(self._file, total, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(mapped, np.uint8)
        self._whole = self._bytes[_PAGE : _PAGE + len(self.shapes)]
        self._full = False
        # A method of the object would keep it alive; workers that end must not close for the process that opened.
        weakref.finalize(self, _close, self._file, self.path, self.remove_at_end, os.getpid())

    def get(self, index: int) -> np.ndarray | None:
        """Return picture ``index`` as a read-only view of the file, or None if it is not stored."""
        if not self._whole[index]:
            return None
        shape = self.shapes[index]
        start = self._pixels_at + int(self._starts[index])
        return self._bytes[start : start + int(shape.prod())].reshape(shape)

    def put(self, index: int, picture: np.ndarray) -> None:
        """Store picture ``index``; one of an unexpected shape is left out, and all are once the disk is full."""
        if self._full or picture.shape != tuple(self.shapes[index]):
            return
        try:
            write_all(self._file, np.ascontiguousarray(picture), self._pixels_at + int(self._starts[index]))
            write_all(self._file, b"\1", _PAGE + index)
        except OSError as error:
            self._full = True
            _log.warning("%s: no further pictures are cached (%s)", self.path or "memory", error.strerror)

    @property
    def device(self) -> int:
        """The number of the file system that holds the file."""
        return os.fstat(self._file).st_dev

    def unwritten(self) -> int:
        """Return how many bytes the file may still grow by."""
        facts = os.fstat(self._file)
        return max(facts.st_size - facts.st_blocks * _BLOCK, 0)

    def __getstate__(self) -> dict:
        # A spawned process opens the file anew; memory without a name cannot travel, so that it begins empty.
        return {"shapes": self.shapes, "path": self.path, "remove_at_end": self.remove_at_end}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


def stored_bytes(shapes: np.ndarray, path: Path | None = None) -> tuple[int, int]:
    """Return the size of a store's file, and how much of it takes up room already because it was filled before."""
    with suppress(OSError, TypeError):
        return _layout(shapes)[2], os.stat(path).st_blocks * _BLOCK
    return _layout(shapes)[2], 0


def remove_unused(paths: list[Path]) -> list[Path]:
    """Remove the stores among these files that no living process has open, and return them."""
    return [path for path in paths if _remove_if_unused(path)]


def nameless_file() -> int:
    """Return an open file in memory that has no name; where there is no such thing, a temporary file of the disk."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("yolograph")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _layout(shapes: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Return where each picture ends within the pixels, where the pixels begin, and the size of the file."""
    ends = np.cumsum(np.asarray(shapes, np.int64).prod(axis=1))
    begin = _PAGE + -(-len(shapes) // _PAGE) * _PAGE
    return ends, begin, begin + int(ends[-1])


def _open_shared(path: Path, total: int, count: int) -> int:
    """Open a store's file with a shared lock on it, made ready if nobody else uses it."""
    while True:
        # A folder that everybody may write into could hold somebody else's link under this name.
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if _lock(file, exclusive=True):
                _make_ready(file, total, count)
            _lock(file)
            # Until here somebody else may have removed the file under this name, or have closed it as the last user.
            state = _state(file)
            if _is_named(file, path) and state not in (None, _CLEAN):
                if _KNOWN_BOOT is not None and state != _BOOT:
                    raise OSError(errno.EBUSY, "another machine uses the file", str(path))
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_named(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _make_ready(file: int, total: int, count: int) -> None:
    """Make sure that a file nobody else uses has its size and claims no picture that it may not hold."""
    state = _state(file)
    is_new = state is None or os.fstat(file).st_size != total
    if is_new:
        os.ftruncate(file, 0)
        os.ftruncate(file, total)
    if is_new or state not in (_CLEAN, _BOOT):
        # Also where they are zeros: to look into a hole takes memory, and the process ends where there is none left.
        write_all(file, bytes(count), _PAGE)
    _set_state(file, _BOOT)
    # Before any picture: else the disk might get its byte first, beside a header that says all is there.
    os.fsync(file)


def _state(file: int) -> bytes | None:
    """Return what the header says: closed in order, or the start of the machine in which the file is in use."""
    header = os.pread(file, _PAGE, 0)
    return header.removeprefix(_MAGIC).rstrip(b"\0") if header.startswith(_MAGIC) else None


def _set_state(file: int, state: bytes) -> None:
    write_all(file, (_MAGIC + state).ljust(_PAGE, b"\0"), 0)


def _close(file: int, path: Path | None, remove: bool, owner: int) -> None:
    """End the use of a file: what the last user leaves behind is removed, or brought to the disk and marked so."""
    if os.getpid() != owner:
        return
    with suppress(OSError):
        if path is not None and _lock(file, exclusive=True):
            if remove:
                path.unlink()
            else:
                os.fsync(file)
                _set_state(file, _CLEAN)
    if fcntl is not None:  # Views of the mapping may live on, and with them the lock.
        fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


def _remove_if_unused(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        if not _lock(file, exclusive=True):
            return False
        path.unlink()
        return True
    except OSError:
        return False
    finally:
        os.close(file)


def _lock(file: int, exclusive: bool = False) -> bool:
    """Take a shared lock, waiting for it, or try to take the exclusive one."""
    if fcntl is None:
        return exclusive
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    return True


def write_all(file: int, data: bytes | np.ndarray, offset: int) -> None:
    """Write contiguous data at an offset of an open file.

    Copied into a mapping of the file instead, they would end the process where there is no room for them.

    Raises:
        OSError: the disk, or the memory of the file, is full.
    """
    left = memoryview(data).cast("B")
    while left:
        done = os.pwrite(file, left, offset)
        left, offset = left[done:], offset + done
