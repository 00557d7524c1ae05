"""Findings are merged, ordered and bounded."""

from __future__ import annotations

from data.checks import finding as findings
from data.checks.finding import CHECKS, Finding, Severity, count_faults, merge_findings, worst_severity


def test_faults_that_tasks_share_are_named_once_and_the_worst_come_first():
    found = [
        Finding("box-tiny", "detect train", "b"),
        Finding("split-leak", "detect train and val", "c"),
        Finding("image-missing", "detect train", "a"),
        Finding("image-missing", "segment train", "a"),
        Finding("image-missing", "detect train", "a"),
        Finding("split-unusable", "pose val", "d"),
    ]
    merged = merge_findings(found)
    assert [(entry.check, entry.where) for entry in merged] == [
        ("split-unusable", "pose val"),
        ("image-missing", "detect train, segment train"),
        ("split-leak", "detect train and val"),
        ("box-tiny", "detect train"),
    ]
    assert worst_severity(merged) is Severity.ERROR and worst_severity([]) is None


def test_more_findings_than_anybody_reads_are_counted(monkeypatch):
    monkeypatch.setattr(findings, "MOST_FINDINGS", 3)
    found = [Finding("box-tiny", f"detect {'train' if i < 4 else 'val'}", str(i), count=2) for i in range(8)]
    merged = merge_findings([*found, Finding("box-huge", "detect val", "alone")])
    assert [entry.sentence for entry in merged] == ["0", "1", "2", "5 more like these", "alone"]
    assert (merged[3].count, merged[3].where) == (10, "detect train, detect val")
    assert count_faults(merged) == 9


def test_checks_are_listed_from_errors_to_notes():
    severities = [check.severity for check in CHECKS.values()]
    assert severities == sorted(severities, reverse=True)
    assert [severity.exit_code for severity in Severity] == [0, 1, 3]
