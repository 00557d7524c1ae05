"""The page of modules in ``docs/yaml.md``, made from the registry: ``python -m models.reference`` rewrites it."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import models.zoo_modules  # noqa: F401 - fills the registry
from models.heads.base import Head
from models.registry import lookup, option_names, registered

PAGE = Path(__file__).resolve().parents[1] / "docs" / "yaml.md"
BEGIN, END = "<!-- begin: made by python -m models.reference -->", "<!-- end: made by python -m models.reference -->"
_WORDS = {"int": "whole number", "float": "number", "bool": "true or false", "str": "word", "None": "None"}
INPUT_PARAMETERS = ("self", "c_in", "in_channels")
TORCH_NOTE = (
    "They take PyTorch's own arguments in PyTorch's order, without the input channels; a list becomes a tuple. "
    "The output channels of the two convolutions are scaled by `width_multiple`, `nn.BatchNorm2d` takes no channels, "
    "the others keep those of their source row. The prefix `torch.` may stand before a name, and `nn.` may be left out."
)


def row_arguments(name: str) -> str:
    """Return how a row writes the arguments of a registered module of ours, such as ``[c_out, kernel=1]``."""
    block = lookup(name)
    shown = _shown_parameters(block)
    written = [_argument(p) for p in shown if p.name not in option_names(block)]
    options = [_option(p) for p in shown if p.name in option_names(block)]
    if options:
        written.append("{" + ", ".join(options) + "}")
    return f"[{', '.join(written)}]"


def _argument(parameter: inspect.Parameter) -> str:
    has_default = parameter.default is not parameter.empty
    return f"{parameter.name}={_as_yaml(parameter.default)}" if has_default else parameter.name


def _option(parameter: inspect.Parameter) -> str:
    return f"{parameter.name}: {_as_yaml(parameter.default)}"


def _as_yaml(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def describe_module(name: str) -> str:
    """Return the section of one module of ours: its row arguments and its docstring as Markdown.

    Raises:
        ValueError: the docstring does not say what an argument means.
    """
    block = lookup(name)
    main, _, _ = (inspect.getdoc(block) or "").partition("\nArgs:\n")
    lines = [f"### {name}", "", f"`{row_arguments(name)}`", "", _with_code_blocks(main.strip())]
    shown = describe_arguments(name)
    if shown:
        lines += ["", *shown]
    if getattr(block, "repeats_inside", False):
        lines += ["", "The row's number of repeats goes inside the block."]
    return "\n".join(lines)


def describe_arguments(name: str) -> list[str]:
    """Return a list item for every argument that a row may write: what it is, its default, and what it means.

    Raises:
        ValueError: no docstring of the class or of those that it is made from says what an argument means.
    """
    block = lookup(name)
    meanings = _meanings(block)
    items = []
    for parameter in _shown_parameters(block):
        if parameter.name not in meanings:
            raise ValueError(f"the docstring of {name} does not say what '{parameter.name}' is; add it under Args")
        kind = _in_words(parameter.annotation)
        if parameter.default is not parameter.empty:
            kind += f", {_as_yaml(parameter.default)} unless given"
        items.append(f"- `{parameter.name}` ({kind}): {meanings[parameter.name]}")
    return items


def _shown_parameters(block: type) -> list[inspect.Parameter]:
    """Return the arguments of a constructor that a row writes."""
    hidden = {*INPUT_PARAMETERS, *(["number"] if getattr(block, "repeats_inside", False) else [])}
    return [p for p in inspect.signature(block.__init__).parameters.values() if p.name not in hidden]


def _meanings(block: type) -> dict[str, str]:
    """Return what the docstrings of a class and of its bases say of arguments; that of the class counts first."""
    found: dict[str, str] = {}
    for kind in (kind for kind in block.__mro__ if kind.__module__.startswith("models.")):
        _, _, rest = inspect.cleandoc(kind.__doc__ or "").partition("\nArgs:\n")
        arguments, _, _ = rest.partition("\n\n")
        found = {**_entries(arguments), **found}
    return found


def _in_words(annotation: object, plural: bool = False) -> str:
    """Return a type hint as one reads it who writes YAML: ``int | None`` is ``whole number or None``."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    kinds: list[str] = []
    for part in _alternatives(text):
        name, _, inner = part.partition("[")
        if name in ("list", "tuple"):
            members = _in_words(inner.removesuffix("]").removesuffix(", ..."), plural=True)
            kinds.append(f"{'lists' if plural else 'list'} of {members}")
        else:
            kinds.append(_WORDS[name] + ("s" if plural else ""))
    return " or ".join(dict.fromkeys(kinds))


def _alternatives(text: str) -> list[str]:
    """Cut a hint at the bars that are not within brackets."""
    parts, depth = [""], 0
    for letter in text.replace(" | ", "|"):
        depth += (letter == "[") - (letter == "]")
        if letter == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _with_code_blocks(text: str) -> str:
    """Turn the indented diagrams that follow ``::`` into fenced code."""
    out: list[str] = []
    paragraphs = re.split(r"\n\n", text)
    for previous, paragraph in zip(["", *paragraphs], paragraphs, strict=False):
        if previous.rstrip().endswith("::"):
            out.append(f"```text\n{textwrap.dedent(paragraph).strip()}\n```")
        else:
            out.append(_as_markdown(re.sub(r"::\s*$", ":", paragraph)))
    return "\n\n".join(out)


def _as_markdown(text: str) -> str:
    return text.replace("``", "`")


def _entries(arguments: str) -> dict[str, str]:
    """Return what a docstring's ``Args`` section says of each argument, as Markdown."""
    entries: list[str] = []
    for line in inspect.cleandoc(arguments).splitlines():
        if line.startswith(" "):
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line)
    return {name: _as_markdown(meaning) for name, _, meaning in (entry.partition(": ") for entry in entries)}


def module_reference() -> str:
    """Return the Markdown of every registered module: blocks by file, then heads, then PyTorch's modules."""
    own = [name for name in registered() if not name.startswith("nn.")]
    torch_rows = [name for name in registered() if name.startswith("nn.")]
    heads = [name for name in own if issubclass(lookup(name), Head)]
    parts = []
    for title, names in (("Blocks", [name for name in own if name not in heads]), ("Heads", heads)):
        parts.append(f"## {title}")
        parts += [describe_module(name) for name in sorted(names, key=lambda n: (lookup(n).__module__, n))]
    listed = ", ".join(f"`{name}`" for name in torch_rows)
    parts += ["## Modules of PyTorch", f"{listed}. {TORCH_NOTE}"]
    return "\n\n".join(parts)


def renew_page(text: str) -> str:
    """Return the page with the part between the two markers made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{module_reference()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renew_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
