"""Where the parts of a plain vision transformer lie among the rows of a graph, however its blocks are cut into rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from models.layers.vit import TokenNorm, ViTBlock, ViTEmbed


@dataclass(frozen=True)
class TokenRows:
    """Names of the modules of a vision transformer, as tensor names begin with them.

    Attributes:
        embed: the patch embedding.
        blocks: the transformer blocks in order.
        norms: the norms of all tokens in order.
    """

    embed: str
    blocks: tuple[str, ...]
    norms: tuple[str, ...]

    def parts(self) -> Iterator[tuple[str, str]]:
        """Yield every module's name and a word for it that does not depend on how blocks are cut into rows."""
        yield self.embed, "embed"
        for kind, names in (("block", self.blocks), ("norm", self.norms)):
            yield from ((name, f"{kind} {i}") for i, name in enumerate(names))


def find_token_rows(graph: nn.Module) -> TokenRows | None:
    """Return where the transformer of a graph lies; None where it has none, or several."""
    found: dict[type[nn.Module], list[str]] = {ViTEmbed: [], ViTBlock: [], TokenNorm: []}
    for name, module in graph.named_modules():
        for kind, names in found.items():
            if isinstance(module, kind):
                names.append(name)
    if len(found[ViTEmbed]) != 1:
        return None
    return TokenRows(found[ViTEmbed][0], tuple(found[ViTBlock]), tuple(found[TokenNorm]))


def same_parts(theirs: nn.Module, ours: nn.Module) -> dict[str, str | None]:
    """Return the modules of their transformer by name, with the name that each has in ours, or None for none.

    Blocks are counted through: those of one model may be one row, those of the other several rows. Empty where one of
    the two has no transformer.
    """
    one, other = find_token_rows(theirs), find_token_rows(ours)
    if one is None or other is None:
        return {}
    here = {word: name for name, word in other.parts()}
    return {name: here.get(word) for name, word in one.parts()}
