"""A published fixture (NAME.json and NAME.npz) and the report of how far our numbers are from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import UsageError


@dataclass(frozen=True)
class Tolerance:
    """``|ours - published| <= absolute + relative * |published|``."""

    absolute: float
    relative: float


DEFAULT_TOLERANCES = {
    "eval_arrays": Tolerance(1e-4, 1e-3),
    "train_arrays": Tolerance(1e-4, 1e-3),
    "losses": Tolerance(0.0, 1e-3),
}
NOTHING_MOVES = Tolerance(1e-6, 1e-5)
"""For plain arithmetic on given numbers, where only the last digits may differ."""


@dataclass(frozen=True)
class Fixture:
    """One published fixture.

    Attributes:
        path: of the JSON file.
        facts: what the JSON file holds.
        arrays: what the NPZ file beside it holds.
    """

    path: Path
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def tolerance(self, kind: str) -> Tolerance:
        """Return the allowed error of ``eval_arrays``, ``train_arrays`` or ``losses``."""
        given = self.facts.get("tolerance", {}).get(kind)
        return Tolerance(given.get("atol", 0.0), given["rtol"]) if given else DEFAULT_TOLERANCES[kind]

    def beside(self, name: str) -> Fixture | None:
        """Return another fixture from the same folder, or None when it is not there."""
        path = self.path.with_name(f"{name}.json")
        return load_fixture(path) if path.is_file() else None


def load_fixture(path: str | Path) -> Fixture:
    """Read a fixture.

    Raises:
        UsageError: there is no such file, or it is not JSON.
    """
    path = Path(path)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: the fixture cannot be read ({error.strerror}); give the path of a NAME.json"
        ) from None
    except ValueError:
        raise UsageError(f"{path}: the fixture is not JSON; give the path of a NAME.json") from None
    if not isinstance(facts, dict):
        raise UsageError(f"{path}: a fixture is a JSON object, but this is a {type(facts).__name__}")
    arrays: dict[str, np.ndarray] = {}
    if path.with_suffix(".npz").is_file():
        with np.load(path.with_suffix(".npz")) as stored:
            arrays = {name: stored[name] for name in stored.files}
    return Fixture(path, facts, arrays)


def as_array(values: Any) -> np.ndarray:
    """Return numbers, an array or a tensor as float64."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, np.float64)


@dataclass
class Report:
    """Comparisons of one fixture, printed one by one as they are made.

    Attributes:
        name: of the fixture.
        compared: how many arrays and numbers were compared.
        misses: names of those out of tolerance.
        skipped: names of those that this program has no counterpart of.
        seen: names of the NPZ arrays and the losses that were compared or skipped.
    """

    name: str
    compared: int = 0
    misses: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def close(self, what: str, ours: Any, published: Any, tolerance: Tolerance) -> None:
        """Compare numbers and print the largest error, also as a share of what is allowed."""
        ours, published = as_array(ours), as_array(published)
        self.seen.add(what)
        self.compared += 1
        if ours.shape != published.shape:
            self._miss(what, f"our shape is {list(ours.shape)}, the published one {list(published.shape)}")
            return
        error = np.abs(ours - published)
        allowed = tolerance.absolute + tolerance.relative * np.abs(published)
        share = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
        worst = float(share.max(initial=0.0)) if np.isfinite(error).all() else float("inf")
        text = f"max error {error.max(initial=0.0):.2e} ({worst:.3f} of tolerance)"
        if worst <= 1.0:
            self._line(what, f"{text}  ok")
        else:
            self._miss(what, text)

    def within(self, what: str, ours: float, published: float, share: float) -> None:
        """Compare one number that may differ by a share of the published one."""
        self.close(what, ours, published, Tolerance(0.0, share))

    def same(self, what: str, ours: Any, published: Any) -> None:
        """Compare whole numbers, shapes, lists or truth values, which must be equal."""
        self.seen.add(what)
        self.compared += 1
        if ours == published:
            self._line(what, "equal  ok")
        else:
            self._miss(what, f"ours is {ours}, published is {published}")

    def skip(self, what: str, reason: str) -> None:
        """Say that a published value has no counterpart here, and why."""
        self.seen.add(what)
        self.skipped.append(what)
        self._line(what, f"skipped: {reason}")

    def unread(self, what: str) -> None:
        """Count a published array or loss that nothing was compared with as a miss."""
        self.compared += 1
        self._miss(what, "nothing here compares it")

    def summary(self) -> str:
        """Return one line for the whole fixture."""
        text = f"{self.name}: {self.compared - len(self.misses)} of {self.compared} comparisons within tolerance"
        text += f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"{text}; MISSED: {', '.join(self.misses)}" if self.misses else f"{text}  ok"

    def _miss(self, what: str, text: str) -> None:
        self.misses.append(what)
        self._line(what, f"{text}  MISS")

    def _line(self, what: str, text: str) -> None:
        print(f"{self.name} {what:<40} {text}")


def tensor(values: Any) -> Tensor:
    """Return published numbers as a float32 tensor."""
    return torch.as_tensor(np.asarray(values, np.float32))
