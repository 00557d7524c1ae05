"""Files that would do harm if anything believed them. ``write_hostile_files`` makes one of each kind."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
COMMAND = b"cos\nsystem\n(S'touch executed'\ntR."
MODULE = b"cantigravity\nfly\n)R."
GETATTR = b"cbuiltins\ngetattr\n(cmodels.yolo\nModel\nS'__class__'\ntR."


def zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """Return a file in PyTorch's zip layout around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in entries.items():
            archive.writestr(f"archive/data/{name}", data)
    return buffer.getvalue()


def row(pickled: bytes) -> bytes:
    """Return a file in the layout of pickles one after another."""
    return MAGIC + pickled + pickle.dumps([], 2)


def overlapping_zip() -> bytes:
    """Return a zip archive of 3,000 entries that all show the same half megabyte."""
    data = bytearray(zipped(b"\x80\x02}.", a=bytes(2**19)))
    start, end = data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    entry = bytes(data[start:end])
    directory = bytes(data[: data.find(b"PK\x01\x02")]), bytes(data[data.find(b"PK\x01\x02") : start])
    entries = directory[1] + b"".join(entry[:-1] + bytes([48 + i % 10]) for i in range(3000))
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3001, 3001, len(entries), len(directory[0]), 0)
    return directory[0] + entries + tail


def endless_tensor() -> bytes:
    """Return a network's tensor that repeats one number a trillion times."""
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"I0\n(L1000000000000L\nt(I0\ntI00\nNtR"
    return zipped(b"(S'model'\n(S'model.0.weight'\n" + rebuilt + b"dd.", **{"0": bytes(4)})


def nested_key(levels: int = 60) -> bytes:
    """Return a dictionary whose key is a tuple of tuples; its hash would take 2^levels steps."""
    return b"\x80\x02}" + b"K\x01K\x01\x86" + b"q\x00h\x00\x86" * levels + b"K\x01s."


def many_copies() -> bytes:
    """Return a list of 100,000 items, and 100,000 sets made of it."""
    big = b"\x80\x02](" + b"K\x01" * 100_000 + b"e\x85q\x00"
    return big + b"0c__builtin__\nset\nq\x010](" + b"h\x01h\x00R" * 100_000 + b"e."


def alias_bomb() -> str:
    """Return a model YAML whose anchors would have 9^10 numbers."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 11)]
    return "\n".join(
        [*lines, "nc: 1", "anchors: *a10", "backbone: [[-1, 1, Conv, [8]]]", "head: [[0, 1, Detect, [nc, anchors]]]"]
    )


def checkpoint_around(text: str, names: object = None) -> bytes:
    """Return a checkpoint of ours with a graph, and class names, of one's own making."""
    names = names or {"detect": ["a"]}
    header = {"format": 1, "source": "x.yaml", "graph": text, "names": names, "progress": {}}
    return save({"model/model.0.weight": torch.zeros(2)}, metadata={"yolograph": json.dumps(header)})


def endless_model(rows: str = "[-1, 1, Conv, [8]]", anchors: str = "[[1, 1]]", nc: str = "1") -> bytes:
    """Return a checkpoint of ours around a model that would take hours or all memory to build."""
    return checkpoint_around(
        f"nc: {nc}\nanchors: {anchors}\nbackbone: [{rows}]\nhead: [[[0], 1, Detect, [nc, anchors]]]\n"
    )


def wrong_offsets() -> bytes:
    """Return a safetensors file whose tensor claims bytes far beyond its end."""
    header = {"model/w": {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}}
    text = json.dumps({**header, "__metadata__": {"yolograph": "{}"}}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(64)


def text(value: str) -> bytes:
    """Return the instruction that puts a text on the stack."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def dictionary(**entries: bytes) -> bytes:
    """Return the instructions that build a dictionary."""
    return b"}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"


def record(kind: str, **state: bytes) -> bytes:
    """Return the instructions that build an object of a class with these attributes."""
    return b"c" + kind.replace(" ", "\n").encode() + b"\n)R" + dictionary(**state) + b"b"


def network(**state: bytes) -> bytes:
    """Return a checkpoint whose network has a usable YAML, and these attributes."""
    values = {"nc": 1, "anchors": [[8, 8]], "backbone": [[-1, 1, "Conv", [8, 3, 2]]]}
    values["head"] = [[[0], 1, "Detect", ["nc", "anchors"]]]
    state = {"yaml": plain_pickle(values), **state}
    return zipped(b"\x80\x02" + dictionary(model=record("models.yolo Model", **state)) + b".")


def plain_pickle(value: object) -> bytes:
    """Return the instructions that build a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def doubled(first: bytes, join: bytes, levels: int) -> bytes:
    """Return the instructions for a value that holds the one before twice, ``levels`` times over."""
    return first + b"q\x09" + (b"0" + join + b"q\x09") * levels


def doubled_list(levels: int = 40) -> bytes:
    """Return a list of 2^levels values in a few hundred bytes."""
    return doubled(b"]", b"](h\x09h\x09e", levels)


def doubled_modules(levels: int = 40) -> bytes:
    """Return a module that holds 2^levels modules."""
    join = record("models.common Conv", _modules=b"}(" + text("a") + b"h\x09" + text("b") + b"h\x09u")
    return doubled(record("models.common Conv"), join, levels)


def normalisation(eps: bytes) -> bytes:
    """Return the modules of a network with one BatchNorm of that eps."""
    return dictionary(x=record("torch.nn.modules.batchnorm BatchNorm2d", eps=eps))


def leaky(slope: bytes) -> bytes:
    """Return the modules of a network with one convolution of that slope."""
    act = record("torch.nn.modules.activation LeakyReLU", negative_slope=slope)
    return dictionary(x=record("models.common Conv", _modules=dictionary(act=act)))


def large_directory() -> bytes:
    """Return a zip archive whose 64-bit end names a table of contents of 8 MB, and whose 32-bit end a small one."""
    data = zipped(b"\x80\x02}.")
    start, end = data.find(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    empty = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 3, 20, *[0] * 4, 33, *[0] * 3, 1, *[0] * 6) + b"a"
    count = 8 * 2**20 // len(empty)
    directory = data[start:end] + empty * count
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count + 1, count + 1, len(directory), start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(directory), 1)
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 100, start, 0)
    return data[:start] + directory + end64 + locator + tail


def tar_header(size: int, kind: bytes = b"0") -> bytes:
    """Return the header of a tar member; a size may be below zero, as the format allows it to be written."""
    info = tarfile.TarInfo("a")
    data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    data[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    data[156:157], data[257:265] = kind, b"ustar\x0000"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def tar_of(**members: bytes) -> bytes:
    """Return a file in PyTorch's tar layout with these members in place of empty ones."""
    buffer = io.BytesIO()
    contents = {"pickle": b"}.", "tensors": b"I0\n.", "storages": b"I0\n.].", **members}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def shared_storage(elements: int = 5_000_000) -> bytes:
    """Return a network whose nine tensors all lie in one storage, which is read for each of them."""
    identifier = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    identifier += plain_pickle(elements) + b"tQ"

    def tensor(*shape: int) -> bytes:
        steps = tuple(torch.empty(shape, device="meta").stride())
        place = b"K\x00" + plain_pickle(shape) + plain_pickle(steps)
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identifier + place + b"tR"

    running = {name: tensor(8) for name in ("weight", "bias", "running_mean", "running_var")}
    norm = dictionary(**running, num_batches_tracked=tensor())
    bn = record("torch.nn.modules.batchnorm BatchNorm2d", eps=plain_pickle(1e-3), _buffers=norm)
    conv = record("torch.nn.modules.conv Conv2d", _parameters=dictionary(weight=tensor(8, 3, 3, 3)))
    first = record("models.common Conv", _modules=dictionary(conv=conv, bn=bn))
    last = record("torch.nn.modules.conv Conv2d", _parameters=dictionary(weight=tensor(6, 8, 1, 1), bias=tensor(6)))
    levels = record("torch.nn.modules.container ModuleList", _modules=b"}(" + text("0") + last + b"u")
    head = record("models.yolo Detect", _buffers=dictionary(anchors=tensor(1, 1, 2)), _modules=dictionary(m=levels))
    rows = record("torch.nn.modules.container Sequential", _modules=b"}(" + text("0") + first + text("1") + head + b"u")
    whole = network(_modules=dictionary(model=rows))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return zipped(archive.read("archive/data.pkl"), **{"0": bytes(4 * elements)})


WIDE = """nc: 1
anchors: [[8, 8]]
width_multiple: 400
backbone: [[-1, 1, Conv, [64, 3, 2]], [-1, 1, Conv, [64, 3, 2]]]
head: [[[1], 1, Detect, [nc, anchors]]]
"""
TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
)


def state_of(channels: dict[str, int]) -> bytes:
    """Return a state dict of convolutions with so many outputs, none of whose numbers are there."""

    def tensor(channels: int) -> bytes:
        identifier = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
        place = plain_pickle((channels, 1, 1, 1)) + plain_pickle((1, 1, 1, 1))
        return (
            b"ctorch._utils\n_rebuild_tensor_v2\n(" + identifier + plain_pickle(channels) + b"tQK\x00" + place + b"tR"
        )

    state = b"}(" + b"".join(text(name) + tensor(count) for name, count in channels.items()) + b"u"
    return zipped(b"\x80\x02" + dictionary(model=state) + b".")


def yolox(stem: int = 8, classes: int = 80, blocks: int = 1) -> bytes:
    """Return a state dict with the names of YOLOX that its size is told from."""
    entries = {"backbone.backbone.stem.conv.conv.weight": stem, "head.cls_preds.0.weight": classes}
    return state_of(entries | {f"backbone.backbone.dark2.1.m.{j}.conv1.conv.weight": 1 for j in range(blocks)})


def yoloms(stem: int = 32, classes: int = 80, layers: int = 1) -> bytes:
    """Return a state dict with the names of YOLO-MS that its size is told from."""
    entries = {"backbone.stem.2.conv.weight": stem, "bbox_head.head_module.rtm_cls.0.weight": classes}
    return state_of(entries | {f"backbone.stage1.1.mid_convs.1.{j}.in_conv.conv.weight": 1 for j in range(layers)})


def absent(*shape: int) -> bytes:
    """Return a tensor of some shape whose numbers are not there."""
    identifier = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    count, steps = math.prod(shape), tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    place = plain_pickle(shape) + plain_pickle(steps)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identifier + plain_pickle(count) + b"tQK\x00" + place + b"tR"


def state_of_absent(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """Return a state dict of tensors whose numbers are not there."""
    state = b"}(" + b"".join(text(name) + absent(*shape) for name, shape in shapes.items()) + b"u"
    return zipped(b"\x80\x02" + dictionary(model=state) + b".")


def detr(
    width: int = 32, levels: int = 1, layers: int = 1, labels: int = 2, queries: int = 1, blocks: int = 1
) -> bytes:
    """Return a state dict with the names of a deformable DETR that its size is told from."""
    body = {
        f"backbone.0.body.layer{n}.{j}.conv{k}.weight": (8, 8, 1, 1)
        for n in range(1, 5)
        for j in range(blocks)
        for k in (1, 2)
    }
    parts = {"encoder": "self_attn", "decoder": "cross_attn"}
    inner = {f"transformer.{part}.layers.{n}.linear1.weight": (8, width) for part in parts for n in range(layers)}
    attention = {
        f"transformer.{part}.layers.0.{name}.attention_weights.weight": (8, width) for part, name in parts.items()
    }
    return state_of_absent(
        {
            "backbone.0.body.conv1.weight": (8, 3, 7, 7),
            **body,
            "transformer.level_embed": (levels, width),
            "input_proj.0.0.weight": (width, 8, 1, 1),
            "class_embed.0.weight": (labels, width),
            "query_embed.weight": (queries, 2 * width),
            **inner,
            **attention,
        }
    )


def resnet(stem: int = 8, blocks: int = 1) -> bytes:
    """Return a state dict with the names of a ResNet that its size is told from."""
    shapes = {"conv1.weight": (stem, 3, 7, 7), "bn1.running_mean": (stem,), "layer4.0.downsample.1.running_var": (8,)}
    names = [f"layer{n}.{j}.conv{k}.weight" for n in range(1, 5) for j in range(blocks) for k in (1, 2)]
    return state_of_absent(shapes | dict.fromkeys(names, (8, 8, 1, 1)))


def yolos(
    width: int = 64, hidden: int = 64, patches: int = 1, labels: int = 2, blocks: int = 1, options: bytes = b""
) -> bytes:
    """Return a state dict with the names of YOLOS that its size is told from, none of whose numbers are there."""
    entries = {f"backbone.blocks.{j}.mlp.fc1.weight": absent(hidden, 64) for j in range(blocks)}
    entries |= {
        "backbone.patch_embed.proj.weight": absent(width, 3, 16, 16),
        "backbone.pos_embed": absent(1, 2 + patches, 64),
        "backbone.det_token": absent(1, 1, 64),
        "class_embed.layers.2.weight": absent(labels + 1, 64),
    }
    state = b"}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u"
    return zipped(b"\x80\x02" + dictionary(model=state, args=options or yolos_options(init_pe_size=[16, 16])) + b".")


def yolos_options(**values: Any) -> bytes:
    """Return the options that the official YOLOS keeps in its files."""
    return record("argparse Namespace", **{name: plain_pickle(value) for name, value in values.items()})


def vision_transformer(length: int) -> bytes:
    """Return a safetensors file with the names of a vision transformer and a table of so many entries."""
    shapes = {"patch_embed.proj.weight": [1, 3, 1, 1], "blocks.0.mlp.fc1.weight": [1, 1], "pos_embed": [1, length, 1]}
    header, start = {}, 0
    for name, shape in shapes.items():
        end = start + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
        start = end
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + bytes(min(start, 2**16))


FILES: dict[str, Callable[[], bytes]] = {
    "command.pt": lambda: zipped(COMMAND),
    "command_row.pt": lambda: row(COMMAND),
    "command_first.pt": lambda: b"\x80\x02" + COMMAND,
    "module.pt": lambda: zipped(MODULE),
    "getattr.pt": lambda: zipped(GETATTR),
    "getattr_logs.pt": lambda: zipped(
        b"c__builtin__\ngetattr\n(cmmengine.logging.history_buffer\nHistoryBuffer\nS'__init__'\ntR(tR."
    ),
    "getattr_of_data.pt": lambda: zipped(b"c__builtin__\ngetattr\n(S'a'\nS'__class__'\ntR."),
    "eval.pt": lambda: zipped(b"c__builtin__\neval\n(S'1'\ntR."),
    "stack_global.pt": lambda: zipped(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."),
    "instance.pt": lambda: zipped(b"(S'touch executed'\nios\nsystem\n."),
    "object.pt": lambda: zipped(b"(csubprocess\nPopen\n(S'id'\nlo."),
    "bytes_load.pt": lambda: zipped(b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR."),
    "nested_name.pt": lambda: zipped(b"\x80\x04\x8c\x06models\x8c\x0a../os.path\x93)R."),
    "persistent_name.pt": lambda: zipped(b"Pxyz\n."),
    "call_of_data.pt": lambda: zipped(b"(lp0\n(tR."),
    "zip_bomb.pt": lambda: zipped(bytes(300 * 2**20), zipfile.ZIP_DEFLATED),
    "overlapping.pt": overlapping_zip,
    "truncated.pt": lambda: zipped(pickle.dumps({"a": 1}, 2))[:-40],
    "truncated_row.pt": lambda: row(pickle.dumps({"a": 1}, 2))[:-9],
    "endless_tensor.pt": endless_tensor,
    "nested_key.pt": lambda: zipped(nested_key()),
    "many_copies.pt": lambda: zipped(many_copies()),
    "long_pickle.pt": lambda: zipped(b"]" * (3 * 2**20)),
    "huge_text.pt": lambda: row(b"X\xff\xff\xff\x7f"),
    "deep_list.pt": lambda: zipped(b"\x80\x02}X\x05\x00\x00\x00model" + b"(" * 200_000 + b"l" * 200_000 + b"s."),
    "page.pt": lambda: b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "pointer.pt": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4062133\n",
    "empty.pt": lambda: b"",
    "noise.pt": lambda: bytes(range(1, 256)) * 20,
    "noise.safetensors": lambda: bytes(range(1, 256)) * 20,
    "alias_bomb.safetensors": lambda: checkpoint_around(alias_bomb()),
    "tag.safetensors": lambda: checkpoint_around("nc: !!python/object/apply:os.system ['touch executed']"),
    "wrong_offsets.safetensors": wrong_offsets,
    "truncated.safetensors": lambda: checkpoint_around("nc: 1")[:-4],
    "no_graph.safetensors": lambda: save({"w": torch.zeros(2)}, metadata={"yolograph": json.dumps({"format": 1})}),
    "deep_header.safetensors": lambda: save({"w": torch.zeros(2)}, metadata={"yolograph": "[" * 100_000}),
    "long_names.pt": lambda: zipped(
        b"\x80\x02" + text("models") + b"q\x00" + text("a" * 200_000) + b"q\x01(" + b"h\x00h\x01\x93" * 20_000 + b"l."
    ),
    "doubled_name.pt": lambda: zipped(b"\x80\x02" + doubled_list() + b"h\x09\x93."),
    "doubled_yaml.pt": lambda: network(yaml=doubled_list()),
    "long_texts.pt": lambda: network(
        yaml=b"}" + text("nc") + text("a" * 100_000) + b"q\x01s" + text("head") + b"](" + b"h\x01" * 10_000 + b"es"
    ),
    "doubled_modules.pt": lambda: network(_modules=dictionary(x=doubled_modules())),
    "long_module_name.pt": lambda: network(_modules=b"}(" + text("x" * 10_000) + record("models.common Conv") + b"u"),
    "skipped_buffers.pt": lambda: network(_non_persistent_buffers_set=record("models.common Conv")),
    "list_eps.pt": lambda: network(_modules=normalisation(b"]")),
    "doubled_eps.pt": lambda: network(_modules=normalisation(doubled(b")", b"h\x09h\x09\x86", 40))),
    "no_slope.pt": lambda: network(_modules=leaky(b"N")),
    "huge_slope.pt": lambda: network(_modules=leaky(plain_pickle(10**500))),
    "section.pt": lambda: network(yaml=plain_pickle({"nc": 1, "backbone": 5, "head": []})),
    "huge_number.pt": lambda: network(yaml=plain_pickle({"nc": 1, "depth_multiple": 10**5000})),
    "long_file_name.pt": lambda: network(yaml_file=text("x\n" * 10_000)),
    "long_key.pt": lambda: zipped(b"\x80\x02}" + text("a\nb" * 10_000) + b"K\x01s."),
    "text_as_shape.pt": lambda: zipped(
        b"\x80\x02" + TENSOR + b"K\x01tQK\x00" + text("a" * 10_000_000) + b"q\x00h\x00tR."
    ),
    "huge_storage.pt": lambda: zipped(b"\x80\x02" + TENSOR + plain_pickle(10**5000) + b"tQK\x00))tR."),
    "shared_storage.pt": shared_storage,
    "wide.pt": lambda: network(yaml=plain_pickle(yaml.safe_load(WIDE))),
    "wide.safetensors": lambda: checkpoint_around(WIDE),
    "number_as_names.safetensors": lambda: checkpoint_around(WIDE, {"detect": 5}),
    "large_directory.pt": large_directory,
    "long_row.pt": lambda: pickle.dumps(0x1950A86A20F9469CFC6C, 2) + (b"\x80\x02" + b"]" * 900_000 + b".") * 3,
    "tar_backwards.pt": lambda: tar_header(-1024) * 3 + bytes(1024),
    "tar_beyond.pt": lambda: tar_header(2**80) + bytes(1024),
    "tar_within.pt": lambda: (tar_header(512, b"L") + bytes(512)) * 3000 + bytes(1024),
    "tar_doubled.pt": lambda: tar_of(pickle=b"\x80\x02" + doubled_list() + b"Q."),
    "tar_infinite.pt": lambda: tar_of(
        storages=b"I1\n.(I0\nS'cpu'\nctorch\nFloatStorage\nt." + bytes(8) + b"((I5\nI0\nI0\nFinf\ntl."
    ),
    "yolox_wide.pt": lambda: yolox(stem=6_400_000),
    "yolox_wider.pt": lambda: yolox(stem=2**40),
    "yolox_deep.pt": lambda: yolox(blocks=5000),
    "yolox_classes.pt": lambda: yolox(classes=2**40),
    "yoloms.pt": yoloms,
    "yoloms_wide.pt": lambda: yoloms(stem=2**40),
    "yoloms_deep.pt": lambda: yoloms(layers=5000),
    "yoloms_classes.pt": lambda: yoloms(classes=2**40),
    "yolos.pt": yolos,
    "yolos_wide.pt": lambda: yolos(width=2**30),
    "yolos_hidden.pt": lambda: yolos(hidden=2**30),
    "yolos_table.pt": lambda: yolos(patches=2**30, options=yolos_options(init_pe_size=[2**19, 2**19])),
    "yolos_table_unknown.pt": lambda: yolos(patches=2**30),
    "yolos_labels.pt": lambda: yolos(labels=2**30),
    "yolos_deep.pt": lambda: yolos(blocks=5000),
    "detr.pt": detr,
    "detr_wide.pt": lambda: detr(width=2**30),
    "detr_levels.pt": lambda: detr(levels=2**30),
    "detr_deep.pt": lambda: detr(layers=2000),
    "detr_many.pt": lambda: detr(layers=900),
    "detr_labels.pt": lambda: detr(labels=2**30),
    "detr_queries.pt": lambda: detr(queries=2**30),
    "resnet.pt": resnet,
    "resnet_wide.pt": lambda: resnet(stem=2**30),
    "resnet_deep.pt": lambda: resnet(blocks=1000),
    "yolos_options.pt": lambda: yolos(options=yolos_options(init_pe_size="a" * 100)),
    "vit_odd.safetensors": lambda: vision_transformer(12),
    "vit_table.safetensors": lambda: vision_transformer(2**40 + 1),
    "unknown_call.pt": lambda: zipped(b"cother.package\nrun\n(S'touch executed'\ntR."),
    "unknown_getattr.pt": lambda: zipped(b"c__builtin__\ngetattr\n(cother.package\nTool\nS'run'\ntR."),
    "numpy_call.pt": lambda: zipped(b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR."),
    "torch_call.pt": lambda: zipped(b"ctorch.hub\nload_state_dict_from_url\n(S'x'\ntR."),
    "repeats.safetensors": lambda: endless_model("[-1, 1000000000, Conv, [8]]"),
    "rows.safetensors": lambda: endless_model(", ".join(["[-1, 1, Conv, [8]]"] * 5000)),
    "pools.safetensors": lambda: endless_model(f"[-1, 1, SPP, [8, {[5] * 50_000}]]"),
    "classes.safetensors": lambda: endless_model(nc="100000000"),
    "anchors.safetensors": lambda: endless_model(anchors="10000000"),
    "layers.safetensors": lambda: endless_model("[-1, 1, TransformerBlock, [8, 4, 99999]]"),
    "digits.safetensors": lambda: endless_model(nc="9" * 900),
    "alias_bomb.yaml": lambda: alias_bomb().encode(),
    "tag.yaml": lambda: yaml.safe_dump({"nc": 1}).encode() + b"head: !!python/name:os.system ''\n",
}
"""File name -> what is in it."""


def write_hostile_files(folder: Path) -> list[Path]:
    """Write every file and return the paths."""
    for name, content in FILES.items():
        (folder / name).write_bytes(content())
    return [folder / name for name in FILES]
