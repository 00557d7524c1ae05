"""Entry points for torch.hub, as users of YOLOv5 know them; the repository is a folder on this machine::

    torch.hub.load("path/to/yolograph", "custom", "best.safetensors", source="local")
    torch.hub.load("path/to/yolograph", "yolov5s", pretrained="yolov5s.pt", source="local")

torch.hub takes every public function of this file for an entry point, and looks for ``dependencies`` before it calls
one. So everything else is private, and the program is imported inside the functions.
"""

from __future__ import annotations

import logging as _logging
import pathlib as _pathlib
import sys as _sys
import typing as _typing

if _typing.TYPE_CHECKING:
    import torch as _torch

    from models.api import Model as _Model
    from models.graph import Graph as _Graph

dependencies = ["torch", "torchvision", "numpy", "cv2", "PIL", "yaml", "scipy", "safetensors", "matplotlib", "tqdm"]

_ROOT = _pathlib.Path(__file__).resolve().parent
_PACKAGES = ("data", "models", "utils")
_RGB = 3


def custom(
    path: str | _pathlib.Path | list[str | _pathlib.Path],
    autoshape: bool = True,
    device: str | int | _torch.device | None = None,
    _verbose: bool = True,
    **settings: _typing.Any,
) -> _Model | _Graph:
    """Return a model of your own.

    Args:
        path: its checkpoint, ours or an official ``.pt``; a list of checkpoints answers together.
        autoshape: True for a model that takes pictures, see ``models.api.Model``; False for the bare ``Graph``.
        device: where to put it; None is the first GPU or else the CPU.
        _verbose: without effect, because nothing is printed; here for calls that were written for YOLOv5.
        settings: of the model that takes pictures: ``conf``, ``iou``, ``size`` ..., see ``models.api.load``.

    Raises:
        ModelError: the file is missing, damaged or no checkpoint.
        UsageError: an argument does not fit.
    """
    _require_own_packages()
    from models.api import choose_device, load
    from models.weights import load_model
    from utils.errors import UsageError

    if autoshape:
        return load(path, "" if device is None else device, **settings)
    if settings or not isinstance(path, str | _pathlib.Path):
        raise UsageError("custom(autoshape=False) returns the bare graph of one checkpoint; give no other setting")
    return load_model(path, choose_device(device))


def _entry(name: str, config: str = "") -> _typing.Callable[..., _Model | _Graph]:
    """Return the entry point of one model of the family, whose YAML is ``config`` or has the entry's own name."""

    def entry(
        pretrained: bool | str | _pathlib.Path = True,
        channels: int = 3,
        classes: int | None = None,
        autoshape: bool = True,
        device: str | int | _torch.device | None = None,
        _verbose: bool = True,
    ) -> _Model | _Graph:
        """Return a model of the family.

        Args:
            pretrained: path of its weights, ours or an official ``.pt``; False for fresh random weights. True is
                refused, because nothing is downloaded.
            channels: of the input; with others than 3 it cannot take pictures, so ``autoshape`` must be False.
            classes: number of classes; None is that of the weights, or of the model's YAML. Weights that do not fit
                another number are left out and named, and the head is to be trained.
            autoshape: True for a model that takes pictures, see ``models.api.Model``; False for the bare ``Graph``.
            device: where to put it; None is the first GPU or else the CPU.
            _verbose: without effect, because nothing is printed; here for calls that were written for YOLOv5.

        Raises:
            ModelError: the file is missing, damaged, no checkpoint, or that of another model.
            UsageError: an argument does not fit.
        """
        return _create(name, config or name, pretrained, channels, classes, autoshape, device)

    entry.__name__ = entry.__qualname__ = name
    return entry


yolov5n, yolov5s, yolov5m, yolov5l, yolov5x = (_entry(f"yolov5{size}") for size in "nsmlx")
yolov5n6, yolov5s6, yolov5m6, yolov5l6, yolov5x6 = (_entry(f"yolov5{size}6") for size in "nsmlx")
yolox_nano, yolox_tiny, yolox_s, yolox_m, yolox_l, yolox_x, yolox_darknet53 = (
    _entry(f"yolox_{size}") for size in ("nano", "tiny", "s", "m", "l", "x", "darknet53")
)

yoloms_xs, yoloms_s, yoloms, yoloms_xs_se, yoloms_s_se, yoloms_se = (
    _entry(f"yoloms{size}") for size in ("_xs", "_s", "", "_xs_se", "_s_se", "_se")
)
yolov6_n, yolov6_t, yolov6_s, yolov6_t_ms = (_entry(f"yolov6_{size}") for size in ("n", "t", "s", "t_ms"))
yolov8_n, yolov8_s, yolov8_m, yolov8_l, yolov8_x, yolov8_n_ms = (
    _entry(f"yolov8_{size}") for size in ("n", "s", "m", "l", "x", "n_ms")
)
yolos_ti, yolos_s, yolos_s_dwr, yolos_b, yolos_s_pe = (
    _entry(f"yolos_{size.replace('-', '_')}", f"yolos-{size}") for size in ("ti", "s", "s-dwr", "b", "s-pe")
)
ms_detr_r50_300, ms_detr_r50_pp_300, ms_detr_r50_pp_900, ms_detr_r50_a_300, deformable_detr_r50 = (
    _entry(name.replace("-", "_"), name)
    for name in (
        "ms-detr-r50-300",
        "ms-detr-r50-pp-300",
        "ms-detr-r50-pp-900",
        "ms-detr-r50-a-300",
        "deformable-detr-r50",
    )
)


def _create(
    name: str,
    config: str,
    pretrained: bool | str | _pathlib.Path,
    channels: int,
    classes: int | None,
    autoshape: bool,
    device: str | int | _torch.device | None,
) -> _Model | _Graph:
    """Return a model of the family; ``config`` is its YAML, the other arguments are those of its entry point."""
    _require_own_packages()
    import torch

    from models.api import Model, choose_device
    from models.fusing import fuse_graph
    from models.inference import Inference
    from utils.errors import UsageError

    if pretrained is True:
        file = f"{name}.pt" if name.startswith("yolov5") else f"{name}.pth"
        raise UsageError(
            f"{name}: nothing is downloaded; get {file} yourself, put it anywhere and give its path: "
            f"pretrained='path/to/{file}' (or pretrained=False for random weights)"
        )
    if not isinstance(pretrained, bool | str | _pathlib.Path):
        raise UsageError(f"{name}: pretrained must be the path of weights, or False, but is {pretrained!r}")
    if autoshape and channels != _RGB:
        raise UsageError(f"{name}: pictures have 3 channels; with channels={channels} give autoshape=False too")
    chosen = choose_device(device)
    if pretrained is False:
        graph = _fresh(config, channels, classes)
    else:
        graph = _trained(name, config, pretrained, channels, classes)
    graph = graph.eval().to(chosen).to(memory_format=torch.channels_last)
    return Model(Inference([fuse_graph(graph)])) if autoshape else graph


def _fresh(config: str, channels: int, classes: int | None) -> _Graph:
    """Return a model of the family with random weights."""
    from models.graph import Graph
    from models.spec import load_spec

    return Graph(_adapted(load_spec(config), channels, classes))


def _trained(name: str, config: str, path: str | _pathlib.Path, channels: int, classes: int | None) -> _Graph:
    """Return a model of the family with the weights of a file, as far as they fit.

    The rows are those of the file, because the family's layout changed between releases.

    Raises:
        ModelError: the file is missing, damaged, no checkpoint, or that of another model.
    """
    from models.graph import Graph
    from models.spec import load_spec
    from models.transfer import transfer_weights
    from models.weights import build_model, load_weights, spec_of
    from utils.errors import ModelError

    checkpoint = load_weights(path)
    own = spec_of(checkpoint)
    if _kind(own) != _kind(load_spec(config)):
        raise ModelError(f"{path}: holds another model than {name}; load it with custom('{path}')")
    graph = build_model(checkpoint, path)
    adapted = _adapted(own, channels, classes)
    if adapted == own:
        return graph
    changed = Graph(adapted)
    _logging.getLogger("yolograph").warning("%s: %s", path, transfer_weights(changed, checkpoint).summary())
    return changed


def _adapted(spec: _typing.Any, channels: int, classes: int | None) -> _typing.Any:
    """Return a model's rows with other numbers of input channels and classes."""
    from models.graph import with_classes
    from utils.errors import UsageError

    mean = (spec.values.get("input") or {}).get("mean")
    if mean is not None and len(mean) != channels:
        raise UsageError(
            f"{spec.source}: its pictures are normalised by the mean of {len(mean)} channels, so channels cannot be "
            f"{channels}; leave it out, or write a model YAML whose 'input' fits"
        )
    spec = spec if channels == spec.channels else spec.with_values(ch=channels)
    return spec if classes is None else with_classes(spec, {"detect": classes})


def _kind(spec: _typing.Any) -> tuple[_typing.Any, ...]:
    """Return what tells the models of the families apart: scale, depth, attention, levels and kind of the head.

    The sizes of a transformer have no scale; its width and its blocks tell them apart, those of a deformable one by
    depth, number and making of the queries, and the place of one-to-many supervision.
    """
    blocks = tuple(str(spec.values.get(key)) for key in ("layers", "attention", "width", "queries", "dim", "ffn"))
    blocks += tuple((row.module, row.number) for row in spec.rows if row.module.startswith("ViTBlock"))
    blocks += tuple(tuple(row.args[:2]) for row in spec.rows if row.module == "ResNetStage")
    options = {key: value for row in spec.rows for key, value in _options(row).items()}
    blocks += tuple(options.get(key) for key in ("supervision", "mixed_selection"))
    return spec.scale, blocks, len(spec.rows[-1].sources), spec.rows[-1].module


def _options(row: _typing.Any) -> dict[str, _typing.Any]:
    """Return the options behind the arguments of a row."""
    return row.args[-1] if row.args and isinstance(row.args[-1], dict) else {}


def _require_own_packages() -> None:
    """Make sure that ``import models`` means the folder beside this file.

    Raises:
        ImportError: another package of one of our names was imported before.
    """
    for name in _PACKAGES:
        module = _sys.modules.get(name)
        places = list(getattr(module, "__path__", [])) or [getattr(module, "__file__", None)]
        if module is not None and not any(place and _pathlib.Path(place).resolve() == _ROOT / name for place in places):
            raise ImportError(
                f"yolograph has a package '{name}', but another one of that name is imported already "
                f"({places[0] or 'of no file'}); load the model before it, or in a process of its own"
            )
