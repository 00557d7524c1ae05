"""Tensor names of YOLOX and YOLOX-Pose as they were published, beside ours: a table for each project's spelling."""

from __future__ import annotations

from models.convert.mmengine_file import NOT_WEIGHTS
from models.convert.name_table import NameTable, run
from models.layers.csp import C3, Bottleneck
from models.layers.depthwise import DWConvPair
from models.layers.pooling import SPP

OFFICIAL = NameTable(
    project="the official YOLOX",
    family="YOLOX",
    rows={
        "0": "backbone.backbone.stem",
        "1": "backbone.backbone.dark2.0",
        "2": "backbone.backbone.dark2.1",
        "3": "backbone.backbone.dark3.0",
        "4": "backbone.backbone.dark3.1",
        "5": "backbone.backbone.dark4.0",
        "6": "backbone.backbone.dark4.1",
        "7": "backbone.backbone.dark5.0",
        "8": "backbone.backbone.dark5.1",
        "9": "backbone.backbone.dark5.2",
        "10": "backbone.lateral_conv0",
        "13": "backbone.C3_p4",
        "14": "backbone.reduce_conv1",
        "17": "backbone.C3_p3",
        "18": "backbone.bu_conv2",
        "20": "backbone.C3_n3",
        "21": "backbone.bu_conv1",
        "23": "backbone.C3_n4",
    },
    head={part: f"head.{part}" for part in ("stems", "cls_convs", "reg_convs", "cls_preds", "reg_preds", "obj_preds")},
    parts={
        C3: {"cv1": "conv1", "cv2": "conv2", "cv3": "conv3"},
        Bottleneck: {"cv1": "conv1", "cv2": "conv2"},
        SPP: {"cv1": "conv1", "cv2": "conv2"},
    },
)

OFFICIAL_DARKNET53 = NameTable(
    project="the official YOLOX",
    family="YOLOX",
    rows={
        **{str(row): f"backbone.backbone.stem.{row}" for row in range(3)},
        "3": "backbone.backbone.dark2.0",
        **run(4, "backbone.backbone.dark2", 2),
        "5": "backbone.backbone.dark3.0",
        **run(6, "backbone.backbone.dark3", 8),
        "7": "backbone.backbone.dark4.0",
        **run(8, "backbone.backbone.dark4", 8),
        "9": "backbone.backbone.dark5.0",
        **run(10, "backbone.backbone.dark5", 4),
        **{str(11 + i): f"backbone.backbone.dark5.5.{i}" for i in range(5)},
        "16": "backbone.out1_cbl",
        **{str(19 + i): f"backbone.out1.{i}" for i in range(5)},
        "24": "backbone.out2_cbl",
        **{str(27 + i): f"backbone.out2.{i}" for i in range(5)},
    },
    head=OFFICIAL.head,
    parts={Bottleneck: {"cv1": "layer1", "cv2": "layer2"}, SPP: {"cv1": "conv1", "cv2": "conv2"}},
)

MMYOLO = NameTable(
    project="mmyolo",
    family="YOLOX",
    rows={
        "0": "backbone.stem",
        "1": "backbone.stage1.0",
        "2": "backbone.stage1.1",
        "3": "backbone.stage2.0",
        "4": "backbone.stage2.1",
        "5": "backbone.stage3.0",
        "6": "backbone.stage3.1",
        "7": "backbone.stage4.0",
        "8": "backbone.stage4.1",
        "9": "backbone.stage4.2",
        "10": "neck.reduce_layers.2",
        "13": "neck.top_down_layers.0.0",
        "14": "neck.top_down_layers.0.1",
        "17": "neck.top_down_layers.1",
        "18": "neck.downsample_layers.0",
        "20": "neck.bottom_up_layers.0",
        "21": "neck.downsample_layers.1",
        "23": "neck.bottom_up_layers.1",
    },
    head={
        "stems": "neck.out_layers",
        "cls_convs": "bbox_head.head_module.multi_level_cls_convs",
        "reg_convs": "bbox_head.head_module.multi_level_reg_convs",
        "pose_convs": "bbox_head.head_module.multi_level_pose_convs",
        "cls_preds": "bbox_head.head_module.multi_level_conv_cls",
        "reg_preds": "bbox_head.head_module.multi_level_conv_reg",
        "obj_preds": "bbox_head.head_module.multi_level_conv_obj",
        "offset_preds": "bbox_head.head_module.multi_level_conv_offsets",
        "vis_preds": "bbox_head.head_module.multi_level_conv_vis",
    },
    parts={
        C3: {"cv1": "main_conv", "cv2": "short_conv", "cv3": "final_conv", "m": "blocks"},
        Bottleneck: {"cv1": "conv1", "cv2": "conv2"},
        SPP: {"cv1": "conv1", "cv2": "conv2"},
        DWConvPair: {"dconv": "depthwise_conv", "pconv": "pointwise_conv"},
    },
    not_weights=NOT_WEIGHTS,
)
