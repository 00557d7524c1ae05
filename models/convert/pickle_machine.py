"""Reads pickles without running them: tensors and containers come out, everything else as inert data.

A pickle is a program for a small stack machine; some of its instructions import names and call what they find. This
machine has the instructions that checkpoints consist of and calls nothing. Names are only ever text: the few that
rebuild tensors and containers are known here, classes of any network or trainer become ``Inert`` records, and the rest
of Python's own library, of PyTorch and of NumPy is refused, because a file that asks for it may mean harm elsewhere.
"""

from __future__ import annotations

import pickletools
import re
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from models.convert.records import MOST_NAME, STORAGE_TYPES, Inert, Name, locate_tensor
from utils.errors import ModelError

MOST_BYTES = 64 * 2**20
MOST_STEPS = 1_000_000
"""About five times what the largest official training checkpoint takes; it bounds the memory that a pickle can fill."""
SIDE_STEPS = 100_000
"""Steps of the pickles beside the object: storage keys, sizes, versions."""
BYTES_PER_STEP = 64
KEY_BITS = 1024
REASON_SHOWN = 200

INERT_NAMES = re.compile(
    r"""
    torch\.nn\.modules(\.\w+)+
    | torch\.nn\.parameter\.Parameter | torch\.(device|Size|dtype) | torch\.\w+Tensor
    | torch\.(float|bfloat|int|uint|complex)\d+ | torch\.bool
    | numpy\.(dtype|ndarray) | numpy\.(core|_core)\.multiarray\.(_reconstruct|scalar)
    | pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path
    | argparse\.Namespace | datetime\.(datetime|date|timedelta) | collections\.(deque|Counter)
    """,
    re.VERBOSE,
)
"""Of the packages that a name may not come from otherwise: what networks consist of and trainers log beside them."""
POWERFUL_PACKAGES = sys.stdlib_module_names | {"__builtin__", "copy_reg", "commands", "torch", "numpy"}
"""Where a name could do harm if anything called it, those of Python 2 included; no checkpoint needs another one."""
CLASS_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
MAPPINGS = ("collections.OrderedDict", "builtins.dict", "__builtin__.dict")
SEQUENCES = tuple(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list"))
NO_BYTES = ("builtins.bytes", "__builtin__.bytes")
LATIN_BYTES = "_codecs.encode"
"""How protocol 2, which knows no bytes, writes them: as text whose characters are the bytes."""
PLAIN_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
GETATTR = ("builtins.getattr", "__builtin__.getattr")
METHODS_OF = ("mmengine.logging.history_buffer.HistoryBuffer",)
"""Classes whose methods a pickle may ask for by name: mmengine's logs keep some. They become records like any class."""
PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")


class _Mark:
    """Stands on the stack where a run of items begins."""


MARK = _Mark()
LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
Scalar = str | int | float | bytes | None


class BoundedReader:
    """A file of which only a given number of bytes may be read, so that no pickle can ask for all memory at once."""

    def __init__(self, file: BinaryIO, most: int = MOST_BYTES) -> None:
        self._file, self._left = file, most

    def read(self, count: int = -1) -> bytes:
        """Return ``count`` bytes, fewer at the end of the file.

        Raises:
            ValueError: more is asked for than is left.
        """
        if count < 0 or count > self._left:
            raise ValueError(f"its pickle is larger than {MOST_BYTES // 2**20} MB, which no checkpoint needs")
        data = self._file.read(count)
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        """Return a line, cut where nothing is left."""
        line = self._file.readline(self._left)
        self._left -= len(line)
        return line

    def tell(self) -> int:
        """Return the position in the file."""
        return self._file.tell()


class PickleMachine:
    """Runs the instructions of one pickle, as far as they describe data.

    Args:
        source: the file's name, for messages.
        persistent: turns the identifier of something that lies outside the pickle into what stands for it.
        steps: how many steps it may take.
    """

    def __init__(self, source: str, persistent: Callable[[Any], Any], steps: int = MOST_STEPS) -> None:
        self._source, self._persistent = source, persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._most_steps = self._steps_left = steps

    def run(self, file: BinaryIO) -> Any:
        """Read one pickle from where ``file`` stands, and leave it behind its last byte.

        Raises:
            ModelError: it names something that is not part of a checkpoint, or it is damaged.
        """
        try:
            for instruction, argument, _ in pickletools.genops(BoundedReader(file)):
                self._spend(1)
                if instruction.name == "STOP":
                    return self._stack.pop()
                self._step(instruction.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeError) as error:
            reason = f"{error.args[0] if error.args else type(error).__name__}".splitlines()[0][:REASON_SHOWN]
            raise ModelError(
                f"{self._source}: its pickle is damaged or not that of a checkpoint ({reason}); download it again"
            ) from None
        raise ModelError(f"{self._source}: its pickle ends too early; download it again")

    def _step(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self._stack.append(argument)
        elif name in LITERALS:
            self._stack.append(LITERALS[name])
        else:
            handler = getattr(self, f"_on_{name.lower()}", None)
            if handler is None:
                raise ValueError(f"the instruction {name} has no place in it")
            handler(argument)

    def _spend(self, steps: int) -> None:
        """Count what is done. Whatever copies counts by its size, because one copy can be asked for again and again.

        Raises:
            ValueError: it is more than any checkpoint needs.
        """
        self._steps_left -= steps
        if self._steps_left < 0:
            raise ValueError(f"it takes more than {self._most_steps:,} steps, which no checkpoint does")

    def _pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self._stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]

    def _refuse(self, path: str) -> ModelError:
        return ModelError(
            f"{self._source}: it would load {path[:100]!r}, which has no place in a checkpoint; nothing was executed. "
            "Use a file of its makers, or none"
        )

    def _named(self, module: Any, name: Any) -> Name:
        """Return a name if checkpoints may hold it.

        Raises:
            ModelError: they may not.
            ValueError: it is no text, or one so long that many copies of it would fill the memory.
        """
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > MOST_NAME:
            raise ValueError(f"a name in it is no text of up to {MOST_NAME} characters")
        path = f"{module}.{name}"
        storage = module == "torch" and name in STORAGE_TYPES
        known = path in (*MAPPINGS, *SEQUENCES, *NO_BYTES, LATIN_BYTES, *PLAIN_TENSORS, *PARAMETERS, *GETATTR)
        if not (storage or known or _is_inert(path)):
            raise self._refuse(path)
        return Name(path)

    def _make(self, name: Any, args: Any) -> Any:
        """Return what a call of ``name`` stands for."""
        if not isinstance(name, Name) or not isinstance(args, tuple):
            raise self._refuse(name.path if isinstance(name, Name) else f"the call of a {type(name).__name__}")
        if name.path in MAPPINGS:
            entries = args[0] if args else ()
            self._spend(len(entries))
            return _as_dict(entries)
        if name.path in SEQUENCES:
            items = args[0] if args else []
            if not isinstance(items, list | tuple):
                raise ValueError("a set is made of something else than items")
            self._spend(len(items))
            return list(items)
        if name.path in NO_BYTES:
            return b""
        if name.path == LATIN_BYTES:
            self._spend(len(args[0]) // BYTES_PER_STEP)
            return args[0].encode("latin-1")
        if name.path in PLAIN_TENSORS:
            return locate_tensor(*args[:4])
        if name.path in PARAMETERS:
            return args[0]
        if name.path in GETATTR:
            return self._method(name, args)
        return Inert(name.path, args)

    def _method(self, name: Name, args: tuple[Any, ...]) -> Inert:
        """Return the record of a method that is asked for by name.

        Raises:
            ModelError: it is that of a class whose methods have no place in a checkpoint.
        """
        owner, method = args if len(args) == 2 else (None, None)
        if not (isinstance(owner, Name) and owner.path in METHODS_OF and isinstance(method, str)):
            raise self._refuse(name.path)
        return Inert(f"{owner.path}.{method[:MOST_NAME]}")

    # What the instructions do; names and numbers are those of the pickle format.

    def _on_proto(self, _: Any) -> None: ...

    def _on_frame(self, _: Any) -> None: ...

    def _on_mark(self, _: Any) -> None:
        self._stack.append(MARK)

    def _on_pop(self, _: Any) -> None:
        self._stack.pop()

    def _on_pop_mark(self, _: Any) -> None:
        self._pop_to_mark()

    def _on_dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _on_empty_list(self, _: Any) -> None:
        self._stack.append([])

    _on_empty_set = _on_empty_list

    def _on_empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _on_empty_tuple(self, _: Any) -> None:
        self._stack.append(())

    def _on_list(self, _: Any) -> None:
        self._stack.append(self._pop_to_mark())

    _on_frozenset = _on_list

    def _on_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _on_tuple1(self, _: Any) -> None:
        self._shorten(1)

    def _on_tuple2(self, _: Any) -> None:
        self._shorten(2)

    def _on_tuple3(self, _: Any) -> None:
        self._shorten(3)

    def _shorten(self, count: int) -> None:
        """Replace the last ``count`` values by a tuple of them."""
        if len(self._stack) < count:
            raise ValueError("a tuple lacks values")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _on_dict(self, _: Any) -> None:
        self._stack.append(_paired(self._pop_to_mark()))

    def _on_append(self, _: Any) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _on_appends(self, _: Any) -> None:
        self._extend(self._pop_to_mark())

    _on_additems = _on_appends

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Inert):
            return  # what a class made of its items is not known, and nothing here asks for it
        if not isinstance(target, list):
            raise ValueError(f"items are added to a {type(target).__name__}")
        target.extend(items)

    def _on_setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update(_paired([key, value]))

    def _on_setitems(self, _: Any) -> None:
        self._update(_paired(self._pop_to_mark()))

    def _update(self, entries: dict[Any, Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Inert):
            return
        if not isinstance(target, dict):
            raise ValueError(f"entries are added to a {type(target).__name__}")
        target.update(entries)

    def _on_put(self, index: Any) -> None:
        self._memo[int(index)] = self._stack[-1]

    _on_binput = _on_long_binput = _on_put

    def _on_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _on_get(self, index: Any) -> None:
        self._stack.append(self._memo[int(index)])

    _on_binget = _on_long_binget = _on_get

    def _on_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._named(module, name))

    def _on_stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._named(module, name))

    def _on_reduce(self, _: Any) -> None:
        args, name = self._stack.pop(), self._stack.pop()
        self._stack.append(self._make(name, args))

    _on_newobj = _on_reduce

    def _on_newobj_ex(self, _: Any) -> None:
        self._stack.pop()
        self._on_reduce(None)

    def _on_inst(self, argument: str) -> None:
        args = tuple(self._pop_to_mark())
        module, _, name = argument.partition(" ")
        self._stack.append(self._make(self._named(module, name), args))

    def _on_obj(self, _: Any) -> None:
        name, *args = self._pop_to_mark()
        self._stack.append(self._make(name, tuple(args)))

    def _on_build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, Inert):
            self._spend(len(state) if isinstance(state, dict) else 1)
            target.state.update(state if isinstance(state, dict) else {"": state})

    def _on_binpersid(self, _: Any) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


def _is_inert(path: str) -> bool:
    """Return whether a name becomes a record: a class of networks, of logs, or of a package that is not known here."""
    if INERT_NAMES.fullmatch(path):
        return True
    return CLASS_NAME.fullmatch(path) is not None and path.partition(".")[0] not in POWERFUL_PACKAGES


def _paired(items: list[Any]) -> dict[Any, Any]:
    """Return alternating keys and values as a dict; only plain keys, whose hash takes no time, are taken."""
    keys = items[::2]
    plain = all(isinstance(key, Scalar) and not (isinstance(key, int) and key.bit_length() > KEY_BITS) for key in keys)
    if len(items) % 2 or not plain:
        raise ValueError("a key is neither text nor a number")
    return dict(zip(keys, items[1::2], strict=True))


def _as_dict(entries: Any) -> dict[Any, Any]:
    if isinstance(entries, dict):
        return dict(entries)
    return _paired([item for entry in entries for item in _pair(entry)])


def _pair(entry: Any) -> tuple[Any, Any]:
    key, value = entry
    return key, value
