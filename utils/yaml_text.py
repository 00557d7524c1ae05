"""The one reader of YAML: plain values only, every fault one sentence, small however hostile the text is."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from utils.errors import YolographError

MOST_BYTES = 10_000_000
"""A file beyond this size is not read."""
MOST_VALUES = 100_000
"""Values of a document once every alias is replaced by what it stands for."""
MOST_LEVELS = 50
"""Lists and mappings within one another, aliases replaced likewise."""
MOST_DIGITS = 1000
"""Characters of one number; base 60, which YAML 1.1 has, costs memory to recognise and the square of it to read."""

_FAST: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = "tag:yaml.org,2002:"
_MERGE, _EQUALS, _TEXT, _DATE = f"{_TAGS}merge", f"{_TAGS}value", f"{_TAGS}str", f"{_TAGS}timestamp"
_NUMBERS = (f"{_TAGS}int", f"{_TAGS}float")
_LIKE_A_NUMBER = re.compile(r"[-+.:_0-9a-fA-Fxo]+")
_SHOWN = 40
_PROBLEM_SHOWN = 200


class _Fault(Exception):
    """What is wrong and how to mend it, and in which line, counted from 0; None where it is the text as a whole."""

    def __init__(self, sentence: str, line: int | None = None):
        super().__init__(sentence)
        self.line = line


class _Loader(_FAST):
    """The safe loader with the line of every value that its tag does not allow."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node; see ``yaml.SafeLoader``."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as fault:
            # PyYAML lets through whatever int(), float() or a calendar has to say.
            value = _shown(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
            sentence = f"{value} is no {_short(node.tag)}; mend the value or its tag"
            if node.tag == _DATE and isinstance(fault, ValueError):
                sentence = f"{value} looks like a date but is none ({fault}); put it in quotes"
            raise _Fault(sentence, node.start_mark.line) from None


def is_number(value: Any) -> bool:
    """Return whether a value of a YAML is a finite number."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and math.isfinite(value))


def read_yaml(path: str | Path, error: type[YolographError]) -> Any:
    """Read a YAML file as ``parse_yaml`` does; an empty file is None.

    Args:
        path: of the file, UTF-8 with or without a byte order mark.
        error: what to raise.

    Raises:
        YolographError: of the kind ``error``, as from ``parse_yaml``; also for a file that cannot be read, is no UTF-8
            text or is larger than 10 MB.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror}); mend the path or its permissions") from None
    _check_size(len(data), str(path), error)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise error(f"{path}: cannot be read as text; a YAML is UTF-8 text, save it as such") from None
    return parse_yaml(text, str(path), error)


def parse_yaml(text: str, source: str, error: type[YolographError]) -> Any:
    """Turn the text of one YAML document into plain values: dict, list, str, int, float, bool, None, date.

    The text is gone through as a stream of events first, so nothing is built of a document that is too deep, too long
    or would be so with its aliases written out. Merge keys (``<<``) are allowed.

    Args:
        text: the YAML.
        source: its name for messages.
        error: what to raise.

    Returns:
        The values; None for a text without any.

    Raises:
        YolographError: of the kind ``error``: the text is not valid YAML, holds control characters or ``\\0``, a key
            twice in one mapping, a tag that stands for anything but plain values, an alias within what it names, a
            second document, more than 100,000 values, more than 50 levels, or more than 10 MB.

    Example:
        >>> parse_yaml("{lr0: 0.01, gains: {detect: 0.6}}", "hyp.yaml", YolographError)
        {'lr0': 0.01, 'gains': {'detect': 0.6}}
    """
    _check_size(len(text), source, error)
    try:
        _check_characters(text)
        _check_events(text)
        return _build(text)
    except _Fault as fault:
        where = source if fault.line is None else f"{source}, line {fault.line + 1}"
        raise error(f"{where}: {fault}") from None
    except yaml.YAMLError as fault:
        raise error(f"{source}{_syntax_fault(text, fault)}; mend the YAML syntax there") from None


def _syntax_fault(text: str, fault: yaml.YAMLError) -> str:
    """Return the line and the words of a fault that the loader found."""
    problem = (getattr(fault, "problem", None) or "the text cannot be understood")[:_PROBLEM_SHOWN]
    mark, context = getattr(fault, "problem_mark", None), getattr(fault, "context_mark", None)
    if mark is None:
        return f": is not valid YAML, {problem}"
    # What is missing at the end of a text is missed in the line after it.
    line = min(mark.line, text.rstrip().count("\n"))
    begun = f" in what begins in line {context.line + 1}" if context and context.line < line else ""
    return f", line {line + 1}: is not valid YAML, {problem}{begun}"


def _check_size(size: int, source: str, error: type[YolographError]) -> None:
    if size > MOST_BYTES:
        raise error(f"{source}: is larger than {MOST_BYTES // 10**6} MB; give the path of a YAML, not of other data")


def _check_characters(text: str) -> None:
    """Refuse what YAML does not allow in a text; the two loaders would say it in different words, without the line."""
    strange = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if strange:
        raise _Fault(
            f"holds the character U+{ord(strange.group()):04X}, which no YAML text has; save it as plain UTF-8 text",
            text.count("\n", 0, strange.start()),
        )


class _Census:
    """Counts the values of a document and their levels from its events, as if every alias were written out."""

    def __init__(self) -> None:
        self._total = 0
        self._open: list[list[Any]] = []  # anchor, values so far, levels so far of each list or mapping not yet ended
        self._sizes: dict[str, tuple[int, int]] = {}  # anchor -> values and levels of what it names

    def begin(self, anchor: str | None, line: int) -> None:
        """A list or mapping begins."""
        self._check_levels(1, line)
        self._open.append([anchor, 1, 0])
        self._count(1, line)

    def end(self) -> None:
        """The innermost list or mapping ends."""
        anchor, values, levels = self._open.pop()
        self._put(anchor, values, levels + 1)

    def scalar(self, anchor: str | None, line: int) -> None:
        """A text or number."""
        self._count(1, line)
        self._put(anchor, 1, 0)

    def alias(self, anchor: str, line: int) -> None:
        """An alias stands for what it names."""
        if any(anchor == around for around, _, _ in self._open):
            raise _Fault(f"the alias *{anchor[:_SHOWN]} stands within what it names; write the value instead", line)
        values, levels = self._sizes.get(anchor, (1, 0))
        self._check_levels(levels, line)
        self._count(values, line)
        self._put(None, values, levels)

    def _put(self, anchor: str | None, values: int, levels: int) -> None:
        if anchor is not None:
            self._sizes[anchor] = values, levels
        if self._open:
            around = self._open[-1]
            around[1], around[2] = around[1] + values, max(around[2], levels)

    def _count(self, values: int, line: int) -> None:
        self._total += values
        if self._total > MOST_VALUES:
            raise _Fault(f"more than {MOST_VALUES:,} values, with aliases written out; keep fewer in the file", line)

    def _check_levels(self, further: int, line: int) -> None:
        if len(self._open) + further > MOST_LEVELS:
            raise _Fault(f"more than {MOST_LEVELS} lists or mappings within one another; flatten them", line)


def _check_events(text: str) -> None:
    """Refuse a text whose values are too many, too deep or endless, before anything is built of it."""
    census, documents = _Census(), 0
    for event in yaml.parse(text, Loader=_FAST):
        line = event.start_mark.line
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Fault("begins a second document; keep one in the file, without a line --- between", line)
        elif isinstance(event, yaml.CollectionStartEvent):
            census.begin(event.anchor, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            census.end()
        elif isinstance(event, yaml.ScalarEvent):
            _check_number(event, line)
            if "\0" in event.value:
                raise _Fault("holds a NUL character, which no name and no path has; remove it", line)
            census.scalar(event.anchor, line)
        elif isinstance(event, yaml.AliasEvent):
            census.alias(event.anchor, line)


def _check_number(event: yaml.ScalarEvent, line: int) -> None:
    if len(event.value) <= MOST_DIGITS:
        return
    if event.tag in _NUMBERS or (event.implicit[0] and _LIKE_A_NUMBER.fullmatch(event.value)):
        raise _Fault(f"a number of more than {MOST_DIGITS} digits; put it in quotes if it is meant to be text", line)


def _build(text: str) -> Any:
    """Return the values of a text whose events have been checked."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        nodes = list(_nodes(root))
        for node in nodes:
            _check_tag(loader, node)
        for node in nodes:
            if isinstance(node, yaml.MappingNode):
                _check_keys(loader, node)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Yield every node once, however many aliases lead to it."""
    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        yield node
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in children for part in pair]
        waiting += [child for child in reversed(children) if id(child) not in seen]
        seen.update(map(id, children))


def _check_tag(loader: _Loader, node: yaml.Node) -> None:
    line = node.start_mark.line
    if node.tag == _EQUALS:
        # A lone = is a type of its own in YAML 1.1, of which no reader knows what to make.
        node.tag = _TEXT
    if node.tag != _MERGE and node.tag not in loader.yaml_constructors:
        raise _Fault(
            f"the tag {_short(node.tag)} has no constructor here; only plain values are read, remove the tag", line
        )


def _check_keys(loader: _Loader, node: yaml.MappingNode) -> None:
    """Refuse a key that a mapping has twice; the loader alone would keep the last value and drop the others."""
    lines: dict[Any, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        value, line = loader.construct_object(key), key.start_mark.line
        if not isinstance(value, Hashable):
            continue
        if value in lines:
            raise _Fault(
                f"the key {_shown(key.value)} is there already in line {lines[value] + 1}; remove one of the two", line
            )
        lines[value] = line


def _short(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAGS)}"[:_SHOWN] if tag.startswith(_TAGS) else tag[:_SHOWN]


def _shown(value: str) -> str:
    return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")
