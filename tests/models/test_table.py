"""The table of rows that ``python -m models.graph`` prints."""

from __future__ import annotations

import json

import pytest
import torch

from models.graph import load_graph
from models.spec import load_spec
from models.table import format_table, main, tabulate_model
from utils.errors import UsageError


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the command prints."""
    monkeypatch.setattr("sys.argv", ["models.graph", *arguments])
    main()
    return capsys.readouterr().out


def test_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(monkeypatch, capsys, "yolov5s_v5.yaml").splitlines()
    assert len(lines) == 27
    assert lines[0].split() == ["row", "from", "n", "params", "GFLOPs", "output", "stride", "module", "args", "name"]
    assert lines[1].split()[:4] == ["0", "-1", "1", "3,520"] and "32x320x320" in lines[1] and "1/2" in lines[1]
    assert "[17, 20, 23]" in lines[25] and "1/32" in lines[25] and lines[25].endswith("detect")
    assert lines[26] == "25 rows, 7,276,605 parameters, 17.15 GFLOPs at 640x640"


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(monkeypatch, capsys, "yolov5n_multitask", "--imgsz", "64", "128", "--json"))
    assert found["image_size"] == [64, 128] and len(found["rows"]) == 26
    assert found["parameters"] == sum(row["params"] for row in found["rows"])
    assert found["rows"][24]["shape"] == [[19, 8, 16]] and found["rows"][24]["name"] == "segment"
    assert [shape[1:3] for shape in found["rows"][25]["shape"]] == [[8, 16], [4, 8], [2, 4]]


def test_rows_are_what_the_graph_runs() -> None:
    graph = load_graph("yolov5n_multitask").eval()
    rows = tabulate_model(graph.spec, (64, 96))
    shapes: dict[int, list[list[int]]] = {}
    for index, module in enumerate(graph.model):
        module.register_forward_hook(
            lambda _, __, y, index=index: shapes.update(
                {index: [list(t.shape[1:]) for t in (y if isinstance(y, list) else [y])]}
            )
        )
    with torch.no_grad():
        graph(torch.zeros(1, 3, 64, 96))
    assert shapes == {row.index: row.shape for row in rows}
    assert sum(row.params for row in rows) == sum(p.numel() for p in graph.parameters())


def test_operations_of_one_convolution_by_hand() -> None:
    row = tabulate_model(load_spec("yolov5n"), (64, 64))[1]
    values = 32 * 16 * 16  # channels x rows x columns after the second stride
    assert row.flops == 2 * values * 16 * 9 + 8 * values


def test_operations_grow_with_the_area() -> None:
    small, large = (sum(r.flops for r in tabulate_model(load_spec("yolov5n"), (s, s))) for s in (128, 256))
    assert large == pytest.approx(4 * small, rel=1e-3)


def test_columns_line_up() -> None:
    rows = tabulate_model(load_spec("yolov5n_multitask"), (64, 64))
    lines = format_table(rows, (64, 64)).splitlines()
    start = lines[0].index("module")
    assert all(line[start - 2 : start] == "  " and line[start] != " " for line in lines[:-1])


@pytest.mark.parametrize("sizes", [["16"], ["64", "64", "64"]])
def test_sizes_that_do_not_fit(sizes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["models.graph", "yolov5n", "--imgsz", *sizes])
    with pytest.raises(UsageError, match="--imgsz"):
        main()
