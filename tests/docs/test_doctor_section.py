"""The section on the doctor in docs/data.md names every check with its severity, every option and every exit code."""

from __future__ import annotations

import re

import pytest

from data.checks.finding import CHECKS, Severity
from data.doctor import EPILOG, parse_options
from tests.conftest import REPO

SECTION = (REPO / "docs" / "data.md").read_text(encoding="utf-8").split("## The doctor\n")[1].split("\n## ")[0]


def test_every_check_is_on_the_page_with_its_severity():
    rows = re.findall(r"^\| `([\w-]+)` \| (error|warning|note) \|", SECTION, flags=re.MULTILINE)
    assert rows == [(check.code, check.severity.name.lower()) for check in CHECKS.values()]


def test_every_option_is_on_the_page(capsys):
    with pytest.raises(SystemExit):
        parse_options(["--help"])
    options = set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out)) - {"--help"}
    rows = set(re.findall(r"^\| `(--[\w-]+)", SECTION, flags=re.MULTILINE))
    assert rows == options


def test_exit_codes_agree():
    for severity in Severity:
        assert re.search(rf"^\| {severity.exit_code} \|.*{severity.name.lower()}s", SECTION, flags=re.MULTILINE)
        assert re.search(rf"\b{severity.exit_code} [^,]*{severity.name.lower()}s", EPILOG)
