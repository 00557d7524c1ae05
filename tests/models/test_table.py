"""The table of rows that ``python -m models.graph`` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.graph import load_graph
from models.layers.deformable_attention import MSDeformAttn
from models.operations import count_mac_based, count_operations
from models.spec import load_spec
from models.table import CONVENTIONS, format_table, main, tabulate_model, totals_of
from utils.errors import UsageError


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what the command prints."""
    monkeypatch.setattr("sys.argv", ["models.graph", *arguments])
    main()
    return capsys.readouterr().out


def test_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(monkeypatch, capsys, "yolov5s_v5.yaml").splitlines()
    assert lines[0].split() == ["row", "from", "n", "params", "GFLOPs", "output", "stride", "module", "args", "name"]
    assert lines[1].split()[:4] == ["0", "-1", "1", "3,520"] and "32x320x320" in lines[1] and "1/2" in lines[1]
    assert "[17, 20, 23]" in lines[25] and "1/32" in lines[25] and lines[25].endswith("detect")
    other = totals_of(tabulate_model(load_spec("yolov5s_v5")))["mac_based"]
    assert lines[26] == (
        "25 rows, 7,276,605 parameters, 17.15 GFLOPs at 640x640; "
        f"8.53 G ({other:,}) as tables of MMDetection's family count"
    )
    assert " ".join(lines[27:]) == CONVENTIONS and max(map(len, lines[27:])) <= 120


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


PUBLISHED = {
    "yoloms_xs": (4_493_932, 8_739_251_200),
    "yoloms_xs_se": (4_537_452, 8_742_366_720),
    "yoloms_s": (8_052_462, 15_574_935_600),
    "yoloms_s_se": (8_130_678, 15_579_144_616),
    "yoloms": (21_992_412, 40_087_603_200),
    "yoloms_se": (22_166_492, 40_093_921_280),
    "yolov6_t": (9_697_404, 12_369_254_400),
    "yolov6_t_ms": (8_115_772, 9_619_008_000),
    "yolov8_n": (3_157_184, 4_400_998_400),
    "yolov8_n_ms": (2_862_704, 4_406_796_800),
}
"""Parameters after re-parameterisation and operations at 640 px, as the published program counts them."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_to_the_unit(name: str) -> None:
    totals = totals_of(tabulate_model(load_spec(name), deploy=True))
    assert (totals["parameters"], totals["mac_based"]) == PUBLISHED[name]


def test_deploy_takes_branches_away_and_leaves_the_published_count_alone() -> None:
    spec = load_spec("yolov6_t")
    trained, deployed = (tabulate_model(spec, (64, 64), deploy) for deploy in (False, True))
    assert sum(row.params for row in trained) == 10_628_988
    assert [row.mac_based for row in trained] == [row.mac_based for row in deployed]
    stem, deployed_stem = trained[0], deployed[0]
    values = 24 * 32 * 32
    assert stem.mac_based == deployed_stem.flops // 2 == values * 3 * 9
    # A 3x3 and a 1x1 branch, each with its norm.
    assert stem.flops == 2 * values * 3 * 10 + 2 * 8 * values
    shown = format_table(deployed, (64, 64), True)
    assert "9,697,404 parameters after re-parameterisation" in shown


def test_what_each_operation_counts(tmp_path: Path) -> None:
    path = tmp_path / "counted.yaml"
    path.write_text(
        "nc: 5\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, SE, [8]]\n"
        "  - [-1, 1, nn.Upsample, [None, 2, nearest]]\n  - [-1, 1, nn.ConvTranspose2d, [8, 2, 2]]\n"
        "  - [-1, 1, nn.MaxPool2d, [4]]\n"
        "head:\n  - [[-1], 1, YOLOv8Head, [nc, 4]]\n"
    )
    conv, attention, larger, transposed, pooled, head = tabulate_model(load_spec(path), (64, 64))
    values = 16 * 32 * 32
    assert conv.mac_based == values * 3 * 9 + 2 * values
    assert attention.mac_based == values + 16 * 2 * 2
    assert larger.mac_based == 16 * 64 * 64
    assert transposed.mac_based == 64 * 64 * 16 * 8 * 4
    assert pooled.mac_based == 0
    cells, (wide, narrow) = 32 * 32, (8, 16)
    per_cell = sum(9 * 8 * width + 9 * width * width + 4 * width for width in (wide, narrow))
    assert head.mac_based == cells * (per_cell + wide * 5 + narrow * 16 + 4 * 4)


def test_json_has_both_counts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(monkeypatch, capsys, "yolov6_t_ms", "--imgsz", "64", "--deploy", "--json"))
    assert found["deploy"] is True and found["conventions"] == CONVENTIONS
    for key in ("flops", "mac_based"):
        assert found[key] == sum(row[key] for row in found["rows"])
    assert found["parameters"] == 8_115_772


def test_sums_of_deformable_attention_count() -> None:
    """Four corners of every point, a multiply-add for each value of a head; in the other convention half of it."""
    with torch.device("meta"):
        block = MSDeformAttn(32, 4, 2, 3).eval()
        x, references, shapes = torch.empty(1, 20, 32), torch.empty(1, 20, 1, 2), ((4, 4), (2, 2))
    linear = 20 * 32 * (32 + 4 * 2 * 3 * 2 + 4 * 2 * 3 + 32)
    sums = 20 * 4 * (2 * 3 * 4) * (32 // 4)
    for count, factor in ((count_operations, 2), (count_mac_based, 1)):
        with torch.no_grad(), count(block) as counted:
            block(x, references, x, shapes)
        assert counted == [factor * (linear + sums)]


def test_operations_grow_with_the_area() -> None:
    small, large = (sum(r.flops for r in tabulate_model(load_spec("yolov5n"), (s, s))) for s in (128, 256))
    assert large == pytest.approx(4 * small, rel=1e-3)


def test_columns_line_up() -> None:
    rows = tabulate_model(load_spec("yolov5n_multitask"), (64, 64))
    lines = format_table(rows, (64, 64)).splitlines()[: len(rows) + 1]
    start = lines[0].index("module")
    assert all(line[start - 2 : start] == "  " and line[start] != " " for line in lines)


@pytest.mark.parametrize("sizes", [["16"], ["64", "64", "64"]])
def test_sizes_that_do_not_fit(sizes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["models.graph", "yolov5n", "--imgsz", *sizes])
    with pytest.raises(UsageError, match="--imgsz"):
        main()


def test_a_size_between_multiples_of_the_stride_is_not_blamed_on_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["models.graph", "yolov5n6", "--imgsz", "672"])
    with pytest.raises(UsageError, match=r"--imgsz 672: yolov5n6\.yaml takes multiples of 64 pixels, such as 704"):
        main()
