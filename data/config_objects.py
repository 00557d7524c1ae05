"""Blocks of boxes and keypoints in a data YAML, in any format, read and checked into the data of one task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.class_map import ClassMap, SharedClasses, Vocabulary, read_class_map, shared_map
from data.class_names import checked_names
from data.coco_cache import open_coco_classes
from data.config_places import Places
from data.formats.coco_json import CocoFile
from data.formats.contract import PictureFormat, SplitFormat
from data.formats.registry import PICTURE_FORMATS, SPLIT_FORMATS
from data.keypoint_block import read_keypoints
from data.keypoints import COCO_PERSON, KeypointSpec
from data.task_data import TaskData
from utils.errors import DataError, did_you_mean

OBJECT_FORMATS: dict[str, PictureFormat | SplitFormat] = {**PICTURE_FORMATS, **SPLIT_FORMATS}

OPTIONS: dict[str, tuple[str, ...]] = {"one_based": ("voc",), "drop_difficult": ("voc", "labelme")}
"""The formats that read an option, which is true or false: see ``VocObjects`` and ``labels_of_objects``."""


def object_block(
    places: Places, task: str, key: str, block: Mapping[str, Any], prefix: str, shared: SharedClasses | None = None
) -> TaskData:
    """Read a block of boxes or keypoints.

    Args:
        places: of the YAML.
        task: detect or pose.
        key: of the block.
        block: keys and values.
        prefix: of its keys in messages, such as ``detect.``.
        shared: the classes of the set where the block is one of its sources.

    Raises:
        DataError: a key is missing or wrong, or keys do not go together.
    """
    return _ObjectBlock(places, task, key, block, prefix, shared).read()


class _ObjectBlock:
    def __init__(
        self, places: Places, task: str, key: str, block: Mapping[str, Any], prefix: str, shared: SharedClasses | None
    ):
        self.places, self.task, self.key, self.block, self.prefix = places, task, key, block, prefix
        self.shared = shared
        self.path = places.path

    def read(self) -> TaskData:
        form = self.format()
        if form == "coco":
            return self._coco()
        if form == "yolo":
            return self._yolo()
        if form in SPLIT_FORMATS and self.block.get("annotations") is not None:
            return self._listed(form)
        return self._pictures(form)

    def format(self) -> str:
        """Return the name of the format, after holding it against the other keys."""
        listed = self.block.get("annotations") is not None
        form = self.block.get("format", "coco" if listed else "yolo")
        if not isinstance(form, str) or form not in OBJECT_FORMATS:
            raise DataError(
                f"{self.path}: `{self.prefix}format` is {form!r}; choose one of {', '.join(OBJECT_FORMATS)}."
                f"{did_you_mean(form, OBJECT_FORMATS)}"
            )
        if listed and form not in SPLIT_FORMATS:
            raise DataError(
                f"{self.path}: `{self.prefix}annotations` is a file for all pictures of a split, and {form} has one "
                "for each; give their folder as `labels`"
            )
        if listed and "labels" in self.block:
            raise DataError(f"{self.path}: `{self.key}` has `labels` and `annotations`; keep one of them")
        if not listed and form not in PICTURE_FORMATS:
            raise DataError(
                f"{self.path}: `{self.prefix}annotations` is missing; give the file of every split, such as "
                "{train: train.json, val: val.json}"
            )
        if self.task == "pose" and "keypoints" not in OBJECT_FORMATS[form].keeps:
            having = [name for name, other in OBJECT_FORMATS.items() if "keypoints" in other.keeps]
            raise DataError(
                f"{self.path}: `{self.prefix}format`: {form} has no keypoints; choose one of {', '.join(having)}"
            )
        return form

    def _yolo(self) -> TaskData:
        keypoints = self._required_keypoints()
        labels = self.block.get("labels", "labels")
        if not isinstance(labels, str):
            raise DataError(f"{self.path}: `{self.prefix}labels` is {labels!r}; give a folder's name")
        names = self._checked(self.block.get("names"))
        classes, class_map = self._map(names, self._vocabulary(names, f"`{self.prefix}names`", indexed=True))
        return self._data(
            "yolo_txt",
            classes,
            self._splits(),
            keypoints,
            class_map,
            options={**self._options("yolo"), "labels": labels},
        )

    def _pictures(self, form: str) -> TaskData:
        """A format with a label file per picture that holds names."""
        classes, class_map = self._named_classes(form)
        keypoints = self._required_keypoints()
        splits = self._splits()
        labels = self.places.folders(self.block.get("labels"), splits, f"{self.prefix}labels")
        return self._data(form, classes, splits, keypoints, class_map, labels=labels)

    def _listed(self, form: str) -> TaskData:
        """A format with one file for all pictures of a split, other than COCO's."""
        classes, class_map = self._named_classes(form)
        splits = self._image_folders()
        files = self.places.files(self.block["annotations"], splits, f"{self.prefix}annotations", "file of labels")
        return self._data(form, classes, splits, self._required_keypoints(), class_map, annotations=files)

    def _coco(self) -> TaskData:
        """COCO annotation files; names and keypoints may be left to them."""
        splits, key = self._image_folders(), f"{self.prefix}annotations"
        annotations = self.places.files(self.block["annotations"], splits, key, "COCO file")
        names, keypoints = self.block.get("names"), self._keypoints()
        first = next((split for split in annotations if split in self.places.checked), next(iter(annotations)))
        posed, wanted = self.task == "pose", names is None or self.shared is not None
        if wanted or (posed and (keypoints is None or annotations[first].is_file())):
            coco = open_coco_classes(annotations[first])
            names = coco.categories if names is None else names
            if posed:
                keypoints = self._keypoints_of_file(coco) if keypoints is None else self._in_order(keypoints, coco)
            if self.shared is not None:
                # A source need not have all classes of the set.
                names = [name for name in self._checked(names) if name in coco.categories] or names
        names = self._checked(names)
        classes, class_map = self._map(names, self._vocabulary(names, f"`{self.prefix}names` or of its file"))
        return self._data("coco_json", classes, splits, keypoints, class_map, annotations=annotations)

    def _named_classes(self, form: str) -> tuple[list[str], ClassMap | None]:
        """Return the classes of the set, and the map to them, of a format whose files hold names."""
        own, given = list(OBJECT_FORMATS[form].names), self.block.get("names")
        if own and self.shared is not None:
            # The names of the set are those of all its sources; this one has its own.
            return self._map(own, self._vocabulary(own, form))
        if given is None and not own and ("classes" in self.block or self.shared is not None):
            return self._map(None, Vocabulary([], "", open=True))
        names = self._checked(own if given is None else given)
        unknown = next((name for name in names if own and name not in own), None)
        if unknown is not None:
            raise DataError(
                f"{self.path}: `{self.prefix}names` has '{unknown}', which is no class of {form}; it has "
                f"{', '.join(own)}.{did_you_mean(unknown, own)}"
            )
        return self._map(names, self._vocabulary(names, form if given is None else f"`{self.prefix}names`"))

    def _vocabulary(self, names: list[str], of: str, indexed: bool = False) -> Vocabulary:
        partial = self.shared is not None and self.shared.mapped and self.block.get("classes") is not None
        return Vocabulary(names, f"class of {of}", indexed=indexed, partial=partial)

    def _map(self, names: list[str] | None, vocabulary: Vocabulary) -> tuple[list[str], ClassMap | None]:
        """Return the classes of the set, and the map from those of the files, None where they are the same.

        Args:
            names: of the files; None where only reading shows them.
            vocabulary: of the files, for ``classes``.
        """
        key = f"{self.prefix}classes"
        if "classes" in self.block:
            return read_class_map(self.path, key, self.block["classes"], vocabulary, self.shared)
        if self.shared is None:
            return names or [], None
        return shared_map(self.path, self.prefix, names, self.shared)

    def _checked(self, names: Any) -> list[str]:
        return checked_names(self.path, names, self.block.get("nc"), f"{self.prefix}names", f"{self.prefix}nc")

    def _splits(self) -> dict[str, list[Path]]:
        return self.places.splits(self.block, self.prefix)

    def _image_folders(self) -> dict[str, list[Path]]:
        """Return the splits' folders of the images that annotation files name."""
        splits = self._splits()
        for split, entries in splits.items():
            for entry in entries:
                if split in self.places.checked and not entry.is_dir():
                    raise DataError(
                        f"{self.path}: `{self.prefix}{split}: {entry}` is no folder; with `{self.prefix}annotations` "
                        "give the folder of the images that they name"
                    )
        return splits

    def _data(
        self,
        form: str,
        names: list[str],
        splits: dict[str, list[Path]],
        keypoints: KeypointSpec | None,
        class_map: ClassMap | None,
        **more: Any,
    ) -> TaskData:
        return TaskData(
            task=self.task,
            key=self.key,
            format=form,
            names=names,
            splits=splits,
            keypoint_spec=keypoints,
            background=self._background(),
            class_map=class_map,
            root=self.places.root,
            source=str(self.path),
            **{"options": self._options("coco" if form == "coco_json" else form), **more},
        )

    def _required_keypoints(self) -> KeypointSpec | None:
        keypoints = self._keypoints()
        if self.task == "pose" and keypoints is None:
            raise DataError(
                f"{self.path}: `{self.prefix}keypoints` is missing; give the number of keypoints per object, or "
                f"`{self.prefix}kpt` with their names"
            )
        return keypoints

    def _keypoints(self) -> KeypointSpec | None:
        if self.task != "pose":
            return None
        return read_keypoints(self.path, self.prefix, self.block.get("kpt"), self.block.get("keypoints"))

    def _keypoints_of_file(self, coco: CocoFile) -> KeypointSpec:
        """Return COCO's persons where a file has their keypoints; of others it lacks mirror partners and sigmas."""
        if coco.keypoint_names == COCO_PERSON.names:
            return COCO_PERSON
        raise DataError(
            f"{self.path}: `{self.prefix}kpt` is missing, and {coco.path} does not have the seventeen keypoints of "
            f"COCO's persons; give `{self.prefix}kpt` with their names, flip and sigmas"
        )

    def _in_order(self, keypoints: KeypointSpec, coco: CocoFile) -> KeypointSpec:
        """Return keypoints of the YAML: the file has them by place, so other names are fine, another order not."""
        if keypoints.names != coco.keypoint_names and sorted(keypoints.names) == sorted(coco.keypoint_names):
            raise DataError(
                f"{self.path}: `{self.prefix}kpt.names` has the names in another order than {coco.path}, which has "
                f"{', '.join(coco.keypoint_names)}; write them in that order"
            )
        return keypoints

    def _background(self) -> bool:
        value = self.block.get("background", self.task != "pose")
        if not isinstance(value, bool):
            raise DataError(
                f"{self.path}: `{self.prefix}background` is {value!r}; give true to train on images without an object "
                "too"
            )
        return value

    def _options(self, form: str) -> dict[str, bool]:
        """Return the options that a format reads; a block of several sources may have some for other ones."""
        options, key = self.block.get("options") or {}, f"{self.prefix}options"
        if not isinstance(options, Mapping):
            raise DataError(f"{self.path}: `{key}` is {options!r}; give keys and values")
        for name, value in options.items():
            if name not in OPTIONS:
                raise DataError(f"{self.path}: unknown key `{key}.{name}`.{did_you_mean(name, OPTIONS)}")
            if not isinstance(value, bool):
                raise DataError(f"{self.path}: `{key}.{name}` is {value!r}; give true or false")
            if form not in OPTIONS[name] and self.shared is None:
                raise DataError(
                    f"{self.path}: `{key}.{name}` is for {' and '.join(OPTIONS[name])}, not for {form}; drop it"
                )
        return {name: value for name, value in options.items() if form in OPTIONS[name]}
