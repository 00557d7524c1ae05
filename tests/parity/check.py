"""Rebuild what published fixtures describe and compare every array and loss they hold.

``python tests/parity/check.py FIXTURE.json ...`` prints the largest error of every comparison. Exit code 0: all within
tolerance; 1: something is not; 2: a fixture cannot be read or names a model that no builder knows.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.parity.loss_checks import check_synthetic_losses
from tests.parity.metric_checks import METRIC_CHECKS
from tests.parity.mmyolo_loss_checks import check_yoloms_dsl, check_yolov6_assign, check_yolov8_tal
from tests.parity.mmyolo_model_checks import check_mmyolo_model
from tests.parity.mmyolo_rebuild import named_network
from tests.parity.model_checks import check_model
from tests.parity.ms_detr_model_checks import check_detr_model
from tests.parity.ms_detr_rebuild import is_detr
from tests.parity.published import Fixture, Report, load_fixture
from tests.parity.yolos_model_checks import check_yolos_model
from tests.parity.yolos_rebuild import config_of as yolos_config_of
from tests.parity.yolox_loss_checks import check_yolox_pose_loss, check_yolox_simota
from tests.parity.yolox_model_checks import check_yolox_model
from tests.parity.yolox_pipeline_checks import check_yolox_pipeline
from tests.parity.yolox_rebuild import config_of
from tests.parity.yolox_schedule_checks import check_yolox_schedule
from utils.errors import UsageError, YolographError


def check_yolox_pipeline_and_schedule(fixture: Fixture, report: Report) -> None:
    """Check both halves of the fixture ``yolox_pipeline``."""
    check_yolox_pipeline(fixture, report)
    check_yolox_schedule(fixture, report)
    for name in sorted(set(fixture.arrays) - report.seen):
        if not re.search(r"_in(_\d+)?$", name):  # pictures that go in
            report.unread(name)


CHECKS: dict[str, Callable[[Fixture, Report], None]] = {
    "losses_synthetic": check_synthetic_losses,
    **METRIC_CHECKS,
    "yolox_simota": check_yolox_simota,
    "yolox_pose_loss": check_yolox_pose_loss,
    "yolox_pipeline": check_yolox_pipeline_and_schedule,
    "yoloms_dsl": check_yoloms_dsl,
    "yolov8_tal": check_yolov8_tal,
    "yolov6_assign": check_yolov6_assign,
}
"""Checks of the fixtures that are not a model's, by how the fixture's name begins."""


def check(path: str | Path) -> Report:
    """Check one fixture and print every comparison.

    Raises:
        UsageError: it cannot be read, or nothing here knows what it describes.
    """
    fixture = load_fixture(path)
    report = Report(fixture.name)
    by_name = next((run for name, run in CHECKS.items() if fixture.name.startswith(name)), None)
    if by_name is None and config_of(fixture) is not None:
        by_name = check_yolox_model
    if by_name is None and named_network(fixture) is not None:
        by_name = check_mmyolo_model
    if by_name is None and yolos_config_of(fixture) is not None:
        by_name = check_yolos_model
    if by_name is None and is_detr(fixture):
        by_name = check_detr_model
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
