"""All formats of labels by the names that data YAMLs (``format: voc``) and the command line (``--from voc``) use."""

from __future__ import annotations

from data.formats.bdd100k import Bdd100kObjects
from data.formats.bdd100k_masks import Bdd100kMasks, DrivableMasks
from data.formats.camvid_masks import CamvidMasks
from data.formats.cityscapes_masks import CityscapesMasks
from data.formats.cityscapes_objects import CityscapesObjects
from data.formats.coco_objects import CocoObjects
from data.formats.colour_masks import ColourMasks
from data.formats.contract import MaskFormat, PictureFormat, SplitFormat
from data.formats.index_masks import GreyMasks, PaletteMasks
from data.formats.labelme_json import LabelmeObjects
from data.formats.voc_objects import VocObjects
from data.formats.yolo_objects import YoloObjects

PICTURE_FORMATS: dict[str, PictureFormat] = {
    entry.name: entry for entry in (YoloObjects(), VocObjects(), LabelmeObjects(), CityscapesObjects())
}
"""Objects, one label file per picture."""

SPLIT_FORMATS: dict[str, SplitFormat] = {entry.name: entry for entry in (CocoObjects(), Bdd100kObjects())}
"""Objects, one label file for all pictures of a split."""

MASK_FORMATS: dict[str, MaskFormat] = {
    entry.name: entry
    for entry in (
        *(GreyMasks(), PaletteMasks(), ColourMasks()),
        *(CityscapesMasks(), Bdd100kMasks(), DrivableMasks(), CamvidMasks()),
    )
}
"""Masks, one per picture."""

OF_COLOURS = (ColourMasks.name, CamvidMasks.name)
"""Masks whose pixels are colours, so that no value of theirs can be ignored."""
