"""Where ``--evolve`` looks for better values of recipe keys: one range per key, in the order of the recipe's keys."""

from __future__ import annotations

from typing import NamedTuple


class Range(NamedTuple):
    """The values of a key that a search may try.

    Attributes:
        low: least value.
        high: greatest value.
        log: whether equal factors rather than equal differences count as equal steps; ``low`` is above 0 then.
        needs: which labels a head must learn for the key to have an effect: ``boxes``, ``masks``,
            ``keypoints``, or empty for all. A key that heads declare is searched only where the model has one of these.
        usual: whether it is searched without being named by ``--evolve-keys``.
        only_if: another key and the values of it without which this one has no effect.
    """

    low: float
    high: float
    log: bool = False
    needs: str = ""
    usual: bool = True
    only_if: tuple[str, tuple[str | int, ...]] | None = None


YOLOV5_PIPELINE = ("augment", ("yolov5",))
WARPING_PIPELINE = ("augment", ("yolov5", "yolox"))
MIXING_PIPELINE = ("augment", ("yolov5", "yolox", "rtmdet"))
WITH_ONE_TO_MANY = ("o2m", (1,))

RANGES: dict[str, Range] = {
    "lr0": Range(1e-5, 0.1, log=True),
    "lrf": Range(0.01, 1.0, log=True),
    "momentum": Range(0.6, 0.98),
    "weight_decay": Range(1e-5, 0.02, log=True),
    "warmup_epochs": Range(0.0, 5.0),
    "warmup_momentum": Range(0.0, 0.95, only_if=("optimizer", ("SGD",))),
    # Adam and AdamW start biases at about lr0; a rate that suits SGD destroys them.
    "warmup_bias_lr": Range(0.0, 0.2, only_if=("optimizer", ("SGD",))),
    "clip_norm": Range(1.0, 100.0, log=True, usual=False),
    "ema_tau": Range(50.0, 10_000.0, log=True, usual=False),
    "drop_path": Range(0.0, 0.3, usual=False),
    "box": Range(0.02, 0.2, log=True, needs="boxes"),
    "obj": Range(0.2, 4.0, log=True, needs="boxes"),
    "obj_pw": Range(0.5, 2.0, log=True, needs="boxes"),
    "cls": Range(0.2, 4.0, log=True, needs="boxes"),
    "cls_pw": Range(0.5, 2.0, log=True, needs="boxes"),
    "anchor_t": Range(2.0, 8.0, needs="boxes"),
    "fl_gamma": Range(0.0, 2.0, needs="boxes", usual=False),
    "label_smoothing": Range(0.0, 0.2, usual=False),
    "seg_ohem_threshold": Range(0.5, 0.95, needs="masks", only_if=("seg_loss", ("ohem",))),
    "seg_focal_gamma": Range(0.5, 5.0, needs="masks", only_if=("seg_loss", ("focal",))),
    "yolox_box": Range(1.0, 20.0, log=True, needs="boxes"),
    "yolox_obj": Range(0.2, 5.0, log=True, needs="boxes"),
    "yolox_cls": Range(0.2, 5.0, log=True, needs="boxes"),
    "yolox_l1": Range(0.2, 5.0, log=True, needs="boxes", usual=False),
    "rtmdet_box": Range(0.5, 10.0, log=True, needs="boxes"),
    "rtmdet_cls": Range(0.2, 5.0, log=True, needs="boxes"),
    "yolov6_box": Range(0.5, 10.0, log=True, needs="boxes"),
    "yolov6_cls": Range(0.2, 5.0, log=True, needs="boxes"),
    "yolov8_box": Range(1.0, 20.0, log=True, needs="boxes"),
    "yolov8_cls": Range(0.1, 4.0, log=True, needs="boxes"),
    "yolov8_dfl": Range(0.2, 5.0, log=True, needs="boxes"),
    "set_class": Range(0.2, 5.0, log=True, needs="boxes"),
    "set_box": Range(1.0, 20.0, log=True, needs="boxes"),
    "set_giou": Range(0.5, 10.0, log=True, needs="boxes"),
    "set_no_object": Range(0.02, 1.0, log=True, needs="boxes"),
    "set_cost_class": Range(0.2, 5.0, log=True, needs="boxes", usual=False),
    "set_cost_box": Range(1.0, 20.0, log=True, needs="boxes", usual=False),
    "set_cost_giou": Range(0.5, 10.0, log=True, needs="boxes", usual=False),
    "set_earlier": Range(0.0, 1.0, needs="boxes", usual=False),
    "set_cost_focal": Range(0.2, 5.0, log=True, needs="boxes", usual=False),
    "focal_alpha": Range(0.05, 0.75, needs="boxes", usual=False),
    "focal_gamma": Range(0.5, 4.0, needs="boxes", usual=False),
    "o2m_class": Range(0.2, 5.0, log=True, needs="boxes", only_if=WITH_ONE_TO_MANY),
    "o2m_box": Range(1.0, 20.0, log=True, needs="boxes", only_if=WITH_ONE_TO_MANY),
    "o2m_giou": Range(0.5, 10.0, log=True, needs="boxes", only_if=WITH_ONE_TO_MANY),
    "o2m_threshold": Range(0.2, 0.8, needs="boxes", usual=False, only_if=WITH_ONE_TO_MANY),
    "o2m_iou_share": Range(0.3, 1.0, needs="boxes", usual=False, only_if=WITH_ONE_TO_MANY),
    "enc_class": Range(0.2, 5.0, log=True, needs="boxes", usual=False),
    "enc_box": Range(1.0, 20.0, log=True, needs="boxes", usual=False),
    "enc_giou": Range(0.5, 10.0, log=True, needs="boxes", usual=False),
    "pose_oks": Range(5.0, 100.0, log=True, needs="keypoints"),
    "pose_oks_cost": Range(0.5, 10.0, log=True, needs="keypoints", usual=False),
    "pose_vis": Range(0.2, 5.0, log=True, needs="keypoints"),
    "seg_scale_low": Range(0.5, 1.0, needs="masks"),
    "seg_scale_high": Range(1.0, 2.0, needs="masks"),
    "seg_scale_std": Range(5.0, 100.0, log=True, needs="masks", usual=False),
    "hsv_h": Range(0.0, 0.1, needs="boxes", only_if=YOLOV5_PIPELINE),
    "hsv_s": Range(0.0, 0.9, needs="boxes", only_if=YOLOV5_PIPELINE),
    "hsv_v": Range(0.0, 0.9, needs="boxes", only_if=YOLOV5_PIPELINE),
    "degrees": Range(0.0, 45.0, needs="boxes", only_if=WARPING_PIPELINE),
    "translate": Range(0.0, 0.9, needs="boxes", only_if=WARPING_PIPELINE),
    "scale": Range(0.0, 0.9, needs="boxes", only_if=YOLOV5_PIPELINE),
    "shear": Range(0.0, 10.0, needs="boxes", only_if=WARPING_PIPELINE),
    "perspective": Range(0.0, 0.001, needs="boxes", usual=False, only_if=YOLOV5_PIPELINE),
    "flipud": Range(0.0, 1.0, needs="boxes", only_if=YOLOV5_PIPELINE),
    "fliplr": Range(0.0, 1.0, usual=False),
    "mosaic": Range(0.0, 1.0, needs="boxes", only_if=MIXING_PIPELINE),
    "mixup": Range(0.0, 1.0, needs="boxes", only_if=MIXING_PIPELINE),
}
"""Most limits are those of YOLOv5's evolution, and so is which keys are left alone unless they are named."""

HEAD_GAIN = Range(0.1, 3.0, log=True, only_if=("balance", ("fixed", "pcgrad")))
"""Of ``gains.HEAD``, the factor of a head's loss, where a model has several heads and does not learn these factors."""
