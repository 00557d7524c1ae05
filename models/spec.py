"""Model YAML text -> checked rows. Nothing is built here and nothing of the file is ever executed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from models.input_rule import InputRule, read_input_rule
from models.registry import Scale
from models.row_options import ROW_OPTIONS, RowOptions, options_of_block, read_row_options
from models.yaml_numbers import oversize, positive_number, shown_number, whole_number
from utils.errors import ModelError, did_you_mean
from utils.yaml_text import read_yaml

SECTIONS = ("backbone", "neck", "head")
KNOWN_KEYS = (
    "nc",
    "n_segcls",
    "nkpt",
    "depth_multiple",
    "width_multiple",
    "channel_multiple",
    "channel_rule",
    "anchors",
    "category_ids",
    "det_tokens",
    "pe_size",
    "queries",
    "dim",
    "ffn",
    "dropout",
    "ch",
    "activation",
    "input",
    "recipe",
    "inplace",
    "bn",
    "norm",
    *SECTIONS,
)
LITERALS = {"None": None, "none": None, "True": True, "False": False}
SHARED, PER_TASK = "shared", "per-task"
NORM_KINDS = (SHARED, PER_TASK)
"""What the key ``bn`` may say: rows that several heads use have one BatchNorm for all of them, or one for each."""
CEIL, TRUNCATE = "ceil", "truncate"
CHANNEL_RULES = (CEIL, TRUNCATE)
"""What the key ``channel_rule`` may say: scaled channels are rounded up to a multiple, or cut to whole ones."""
MOST_ROWS = 1_000
MOST_REPEATS = 1_000
MOST_REPEATS_TOGETHER = 5_000
"""Far beyond every network; a file from a stranger cannot keep the builder busy for hours with a few digits."""
CONFIG_ROOT = Path(__file__).resolve().parent / "configs"


@dataclass(frozen=True)
class RowSpec:
    """One row of a model YAML.

    Attributes:
        index: position in the concatenation of backbone, neck and head.
        sources: absolute indices of the rows it reads; -1 is the image.
        listed: whether ``from`` was written as a list.
        number: repeats before scaling.
        module: registered name.
        args: arguments with symbols replaced; a mapping at the end has the block's own options.
        name: the row's own name or None.
        written: ``from`` as written, for messages.
        options: what holds for this row, said by the row itself or else by the model.
    """

    index: int
    sources: tuple[int, ...]
    listed: bool
    number: int
    module: str
    args: list[Any]
    name: str | None
    written: Any
    options: RowOptions = field(default_factory=RowOptions)


@dataclass(frozen=True)
class ModelSpec:
    """A model YAML, read and checked.

    Attributes:
        source: file name for messages.
        values: the parsed YAML.
        rows: its rows in order.
        scale: compound scaling.
        channels: input channels.
        input: what the network expects of a picture.
    """

    source: str
    values: dict[str, Any]
    rows: tuple[RowSpec, ...]
    scale: Scale
    channels: int
    input: InputRule = field(default_factory=InputRule)

    @property
    def text(self) -> str:
        """The YAML text of the model as it stands now, overrides included."""
        return yaml.safe_dump(self.values, sort_keys=False, default_flow_style=None, width=120)

    def where(self, row: RowSpec) -> str:
        """Return how messages name a row."""
        return f"{self.source}, row {row.index} ({row.module} from {row.written})"

    def with_values(self, **values: Any) -> ModelSpec:
        """Return the model with other values of top-level keys."""
        return parse_spec({**self.values, **values}, self.source)

    def with_argument(self, index: int, position: int, value: Any) -> ModelSpec:
        """Return the model with another argument of row ``index``, written into the row itself."""
        section, local = self._locate(index)
        rows = list(self.values[section])
        args = list(rows[local][3])
        args[position] = value
        rows[local] = [*rows[local][:3], args, *rows[local][4:]]
        return parse_spec({**self.values, section: rows}, self.source)

    def with_value_of(self, index: int, position: int, value: Any) -> ModelSpec:
        """Return the model with another value of an argument of row ``index``: its symbol's value, or a literal.

        All rows that use the symbol change with it; ``with_argument`` changes this row alone.
        """
        section, local = self._locate(index)
        args = self.values[section][local][3]
        if position < len(args) and isinstance(args[position], str) and args[position] in self.values:
            return self.with_values(**{args[position]: value})
        return self.with_argument(index, position, value)

    def with_option(self, index: int, name: str, value: Any) -> ModelSpec:
        """Return the model with another option in the mapping behind the arguments of row ``index``.

        Args:
            index: of the row.
            name: of the option.
            value: its value; None leaves the option out.
        """
        section, local = self._locate(index)
        args = self.values[section][local][3]
        options = dict(args[-1]) if args and isinstance(args[-1], Mapping) else {}
        positional = args[:-1] if options else args
        changed = {key: entry for key, entry in {**options, name: value}.items() if entry is not None}
        rows = list(self.values[section])
        rows[local] = [*rows[local][:3], [*positional, *([changed] if changed else [])], *rows[local][4:]]
        return parse_spec({**self.values, section: rows}, self.source)

    def _locate(self, index: int) -> tuple[str, int]:
        """Return the section that holds row ``index``, and the row's place in it."""
        for section in SECTIONS:
            rows = self.values.get(section) or []
            if index < len(rows):
                return section, index
            index -= len(rows)
        raise IndexError("there is no such row")


def find_config(name: str | Path) -> Path:
    """Return the file of a model YAML: the path as given, or the one below ``models/configs`` with that file name.

    Raises:
        ModelError: there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    wanted = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    zoo = {config.name: config for config in sorted(CONFIG_ROOT.rglob("*.yaml"))}
    if wanted in zoo and len(path.parts) == 1:
        return zoo[wanted]
    raise ModelError(
        f"{name}: there is no such model YAML; give a path or a name from models/configs.{did_you_mean(wanted, zoo)}"
    )


def load_spec(path: str | Path) -> ModelSpec:
    """Read a model YAML.

    Raises:
        ModelError: the file is missing, is not YAML, or a row is wrong; the sentence names the row and the mend.
    """
    path = find_config(path)
    return parse_spec(read_yaml(path, ModelError), path.name)


def parse_spec(values: Any, source: str) -> ModelSpec:
    """Check a parsed model YAML.

    Args:
        values: what the YAML holds.
        source: the file's name, for messages.

    Raises:
        ModelError: see ``load_spec``.
    """
    if not isinstance(values, Mapping):
        raise ModelError(
            f"{source}: a model YAML is a mapping with the keys nc, backbone and head, but this is not one"
        )
    values = dict(values)
    written_rows = _written_rows(values, source)
    _check_keys(values, written_rows, source)
    if len(written_rows) > MOST_ROWS:
        raise ModelError(f"{source}: it has {len(written_rows):,} rows; {MOST_ROWS:,} is the most")
    scale = Scale(
        depth=positive_number(values, "depth_multiple", 1.0, source),
        width=positive_number(values, "width_multiple", 1.0, source),
        divisor=_divisor(values, source),
    )
    options = _model_options(values, source)
    rows: list[RowSpec] = []
    names: dict[str, int] = {}
    for index, row in enumerate(written_rows):
        parsed = _parse_row(index, row, names, len(written_rows), values, options, source)
        if parsed.name is not None:
            names[parsed.name] = index
        rows.append(parsed)
    together = sum(scale.repeats(row.number) for row in rows)
    if together > MOST_REPEATS_TOGETHER:
        raise ModelError(
            f"{source}: its rows repeat {together:,} times together; {MOST_REPEATS_TOGETHER:,} is the most"
        )
    channels = whole_number(values, "ch", 3, source)
    return ModelSpec(source, values, tuple(rows), scale, channels, _input_rule(values.get("input"), channels, source))


def _written_rows(values: Mapping[str, Any], source: str) -> list[Any]:
    rows: list[Any] = []
    for section in SECTIONS:
        part = values.get(section)
        if part is None:
            if section == "neck":
                continue
            unknown = [str(key) for key in values if key not in KNOWN_KEYS]
            near = difflib.get_close_matches(section, unknown, n=1, cutoff=0.5)
            mend = f"rename the key '{near[0]}' to '{section}'" if near else "add it with its list of rows"
            raise ModelError(f"{source}: the key '{section}' is missing; {mend}")
        if not isinstance(part, list):
            raise ModelError(f"{source}: '{section}' must be a list of rows [from, number, module, args]")
        rows += part
    if not rows:
        raise ModelError(f"{source}: there are no rows; list them under backbone and head")
    return rows


def _check_keys(values: Mapping[str, Any], rows: list[Any], source: str) -> None:
    """Refuse a top-level key that nothing uses and that looks like a misspelt one."""
    used = {a for row in rows if isinstance(row, list) and len(row) > 3 for a in _strings(row[3])}
    for key in values:
        near = did_you_mean(str(key), KNOWN_KEYS)
        if key not in KNOWN_KEYS and key not in used and near:
            raise ModelError(f"{source}: there is no key '{key}' and no row uses it.{near}")
    if values.get("bn") is not None and values["bn"] not in NORM_KINDS:
        raise ModelError(
            f"{source}: 'bn' must be {' or '.join(NORM_KINDS)}, but it is {values['bn']!r}."
            f"{did_you_mean(str(values['bn']), NORM_KINDS)}"
        )
    rule = values.get("channel_rule")
    if rule is not None and rule not in CHANNEL_RULES:
        raise ModelError(
            f"{source}: 'channel_rule' must be {' or '.join(CHANNEL_RULES)}, but it is {rule!r}."
            f"{did_you_mean(str(rule), CHANNEL_RULES)}"
        )


def _divisor(values: Mapping[str, Any], source: str) -> int | None:
    """Return what scaled channels are a multiple of; None where they are cut to whole ones."""
    if values.get("channel_rule") != TRUNCATE:
        return whole_number(values, "channel_multiple", 8, source)
    if "channel_multiple" in values:
        raise ModelError(
            f"{source}: 'channel_multiple' has no meaning where 'channel_rule' is {TRUNCATE}; leave one of the two out"
        )
    return None


def _model_options(values: Mapping[str, Any], source: str) -> RowOptions:
    """Return what holds for every row that says nothing else."""
    if fault := oversize(values.get("norm")):
        raise ModelError(f"{source}: 'norm' {fault}")
    try:
        return read_row_options({key: values[key] for key in ROW_OPTIONS if key in values}, RowOptions())
    except ValueError as error:
        raise ModelError(f"{source}: {error}") from None


def _input_rule(given: Any, channels: int, source: str) -> InputRule:
    if fault := oversize(given):
        raise ModelError(f"{source}: 'input' {fault}")
    return read_input_rule(given, channels, source)


def _strings(args: Any) -> list[str]:
    if isinstance(args, Mapping):
        args = list(args.values())
    if isinstance(args, list):
        return [text for arg in args for text in _strings(arg)]
    return [args] if isinstance(args, str) else []


def _parse_row(
    index: int,
    row: Any,
    names: Mapping[str, int],
    count: int,
    values: Mapping[str, Any],
    options: RowOptions,
    source: str,
) -> RowSpec:
    where = f"{source}, row {index}"
    if not isinstance(row, list) or len(row) not in (4, 5):
        raise ModelError(f"{where}: a row is [from, number, module, args] with an optional name, but this is {row!r}")
    written, number, module, args = row[:4]
    if not isinstance(module, str):
        raise ModelError(f"{where}: the third item is a module's name, but it is {module!r}")
    where = f"{where} ({module} from {written})"
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ModelError(f"{where}: the second item is how often the module repeats, 1 or more, but it is {number!r}")
    if number > MOST_REPEATS:
        raise ModelError(f"{where}: it repeats {shown_number(number)} times; {MOST_REPEATS:,} is the most")
    if not isinstance(args, list):
        raise ModelError(f"{where}: the arguments must be a list, such as [64, 3, 2], but they are {args!r}")
    name = row[4] if len(row) == 5 else None
    if name is not None:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ModelError(f"{where}: a row's name is a word of letters, digits and _, but it is {name!r}")
        if name in names:
            raise ModelError(f"{where}: the name '{name}' is already that of row {names[name]}; choose another")
    listed = isinstance(written, list)
    if listed and not written:
        raise ModelError(f"{where}: 'from' is an empty list; name at least one row, -1 being the one before")
    sources = tuple(_resolve_source(s, index, names, count, where) for s in (written if listed else [written]))
    resolved = [_resolve(arg, values) for arg in args]
    if fault := oversize(resolved):
        raise ModelError(f"{where}: it {fault}")
    if resolved and isinstance(resolved[-1], Mapping):
        given = resolved.pop()
        own = options_of_block(given)
        options = _row_options({key: given[key] for key in given if key not in own}, options, where)
        resolved += [own] if own else []
    return RowSpec(index, sources, listed, number, module, resolved, name, written, options)


def _row_options(given: Mapping[str, Any], options: RowOptions, where: str) -> RowOptions:
    """Return what a row says for itself alone, in a mapping behind its arguments."""
    try:
        return read_row_options(given, options)
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from None


def _resolve_source(source: Any, index: int, names: Mapping[str, int], count: int, where: str) -> int:
    """Return the absolute index of a ``from`` entry; -1 stands for the image."""
    last = f"rows 0 to {index - 1}" if index > 1 else "row 0" if index else "the image, written -1"
    if isinstance(source, str):
        if source not in names:
            near = did_you_mean(source, names)
            raise ModelError(f"{where}: no earlier row has the name '{source}'; it can read {last}.{near}")
        return names[source]
    if isinstance(source, bool) or not isinstance(source, int):
        raise ModelError(f"{where}: 'from' holds row numbers or names, but one is {source!r}")
    absolute = index + source if source < 0 else source
    if absolute == -1:
        return -1
    if absolute < 0:
        raise ModelError(f"{where}: {source} reaches {-absolute} rows before the first; it can read {last}")
    if absolute == index:
        raise ModelError(f"{where}: it reads itself; it can read {last}")
    if absolute > index:
        later = "comes later" if absolute < count else f"does not exist (the file has rows 0 to {count - 1})"
        raise ModelError(f"{where}: it reads row {absolute}, which {later}; it can read {last}")
    return absolute


def _resolve(arg: Any, values: Mapping[str, Any]) -> Any:
    """Replace a string that names a literal or a top-level key by its value, also inside lists and mappings."""
    if isinstance(arg, list):
        return [_resolve(entry, values) for entry in arg]
    if isinstance(arg, Mapping):
        return {str(key): _resolve(entry, values) for key, entry in arg.items()}
    if not isinstance(arg, str):
        return arg
    if arg in LITERALS:
        return LITERALS[arg]
    return values[arg] if arg in values and arg not in SECTIONS else arg
