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
INPUT_PARAMETERS = ("self", "c_in", "in_channels")
TORCH_NOTE = (
    "They take PyTorch's own arguments in PyTorch's order, without the input channels; a list becomes a tuple. "
    "The output channels of the two convolutions are scaled by `width_multiple`, `nn.BatchNorm2d` takes no channels, "
    "the others keep those of their source row. The prefix `torch.` may stand before a name, and `nn.` may be left out."
)


def row_arguments(name: str) -> str:
    """Return how a row writes the arguments of a registered module of ours, such as ``[c_out, kernel=1]``."""
    block = lookup(name)
    parameters = inspect.signature(block.__init__).parameters.values()
    hidden = {*INPUT_PARAMETERS, *(["number"] if getattr(block, "repeats_inside", False) else [])}
    shown = [p for p in parameters if p.name not in hidden]
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
    """Return the section of one module of ours: its row arguments and its docstring as Markdown."""
    block = lookup(name)
    text = inspect.getdoc(block) or ""
    main, _, rest = text.partition("\nArgs:\n")
    arguments, _, _ = rest.partition("\n\n")
    lines = [f"### {name}", "", f"`{row_arguments(name)}`", "", _with_code_blocks(main.strip())]
    shown = [
        bullet for bullet in _bullets(arguments) if not bullet.startswith(tuple(f"- `{p}`" for p in INPUT_PARAMETERS))
    ]
    if shown:
        lines += ["", *shown]
    if getattr(block, "repeats_inside", False):
        lines += ["", "The row's number of repeats goes inside the block."]
    return "\n".join(lines)


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


def _bullets(arguments: str) -> list[str]:
    """Return the entries of a docstring's ``Args`` section as list items."""
    entries: list[str] = []
    for line in inspect.cleandoc(arguments).splitlines():
        if line.startswith(" "):
            entries[-1] += f" {line.strip()}"
        else:
            name, _, meaning = line.partition(": ")
            entries.append(f"- `{name}`: {meaning}")
    return [_as_markdown(entry) for entry in entries]


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
