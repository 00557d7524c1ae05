"""A missing package is one sentence with the line that installs it."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import REPO
from utils.errors import UsageError
from utils.optional_packages import import_optional


def test_a_package_that_is_there_is_returned():
    assert import_optional("json", "this test").dumps([1]) == "[1]"


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError) as caught:
        import_optional("pandas", "to_pandas()")
    assert str(caught.value) == "to_pandas() needs the package pandas, which is not installed; run: pip install pandas"


def test_what_a_package_lacks_itself_is_named(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="needs the package not_there_at_all"):
        import_optional("half_installed", "this test")


@pytest.mark.parametrize(
    ("file", "packages"),
    [
        ("results", ["pandas", "supervision"]),
        ("search", ["optuna"]),
        ("loggers", ["tensorboard", "mlflow", "wandb"]),
        ("sam", ["segment-anything"]),
    ],
)
def test_the_requirements_file_lists_what_is_asked_for(file, packages):
    lines = (REPO / f"requirements-{file}.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split(">")[0] for line in lines if not line.startswith("#")] == packages
