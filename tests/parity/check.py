"""Rebuild what published fixtures describe and compare every array and loss they hold.

``python tests/parity/check.py FIXTURE.json ...`` prints the largest error of every comparison. Exit code 0: all within
tolerance; 1: something is not; 2: a fixture cannot be read or names a model that no builder knows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.parity.loss_checks import check_synthetic_losses
from tests.parity.metric_checks import METRIC_CHECKS
from tests.parity.model_checks import check_model
from tests.parity.published import Fixture, Report, load_fixture
from utils.errors import UsageError, YolographError

CHECKS: dict[str, Callable[[Fixture, Report], None]] = {"losses_synthetic": check_synthetic_losses, **METRIC_CHECKS}
"""Checks of the fixtures that are not a model's, by how the fixture's name begins."""


def check(path: str | Path) -> Report:
    """Check one fixture and print every comparison.

    Raises:
        UsageError: it cannot be read, or nothing here knows what it describes.
    """
    fixture = load_fixture(path)
    report = Report(fixture.name)
    by_name = next((run for name, run in CHECKS.items() if fixture.name.startswith(name)), None)
    if by_name is None and "model" not in fixture.facts:
        raise UsageError(f"{path}: it names no model, and no check is for '{fixture.name}'; add one to CHECKS")
    (by_name or check_model)(fixture, report)
    print(report.summary())
    return report


def main() -> None:
    """Check the fixtures that the command line names."""
    parser = argparse.ArgumentParser(description="Compare with published fixtures.")
    parser.add_argument("fixtures", nargs="+", metavar="FIXTURE.json", help="its .npz lies beside it")
    unknown, missed = 0, 0
    for path in parser.parse_args().fixtures:
        try:
            missed += bool(check(path).misses)
        except YolographError as error:
            print(f"error: {error}", file=sys.stderr)
            unknown += 1
    if unknown or missed:
        sys.exit(2 if unknown else 1)


if __name__ == "__main__":
    main()
