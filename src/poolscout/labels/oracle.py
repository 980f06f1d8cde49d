"""The oracle: known labels play the human, and are shown for the images that were asked for only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from poolscout.errors import AnnotationError, ConfigError, DataError, nearest, some
from poolscout.formats.annotations import read_annotations
from poolscout.labels.store import Labels


class Oracle:
    """Answers for the images of an annotation file.

    Args:
        annotations: the ground truth: COCO, YOLO or VOC.
        classes: the classes to learn; None = every category that has a box.
        bad_boxes: "drop" goes on without unusable boxes.
        sizes: image_id → (width, height) in px, where the file does not give them.

    Attributes:
        classes: the classes it answers for.
        image_ids: the images it can label.
        notes: what was left out or cut when the file was read.

    Raises:
        ConfigError: a class that the file does not have, or that no box has.
        AnnotationError: the file is unusable, or has no box at all.
    """

    def __init__(
        self,
        annotations: Path,
        classes: Sequence[str] | None = None,
        *,
        bad_boxes: Literal["error", "drop"] = "error",
        sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        known = read_annotations(annotations, bad_boxes=bad_boxes, sizes=sizes)
        with_boxes = set(known.boxes["class"].unique().to_pylist())
        if not with_boxes:
            raise AnnotationError(
                f"{known.path}: there is nothing to learn", got=f"{len(known.images)} images without any box",
                expected="ground truth with boxes", fix="name the right file in labelling.annotations",
            )  # fmt: skip
        if classes is None:
            self.classes = tuple(name for name in known.classes if name in with_boxes)
        else:
            self.classes = tuple(classes)
            _check_classes(known.path, self.classes, known.classes, with_boxes)
        self.image_ids = tuple(image.image_id for image in known.images)
        self.notes = known.notes
        self.__boxes = known.boxes.filter(pc.is_in(known.boxes["class"], pa.array(self.classes, pa.string())))

    def reveal(self, image_ids: Iterable[str]) -> Labels:
        """The labels of exactly these images.

        Raises:
            DataError: an image it does not know, or one asked for twice.
        """
        asked = list(image_ids)
        unknown = sorted(set(asked) - set(self.image_ids))
        if unknown:
            raise DataError(
                f"the oracle does not know {len(unknown)} of {len(asked)} images", got=some(unknown),
                expected="images of labelling.annotations",
                fix=nearest(unknown[0], self.image_ids) or "use the annotations of this pool",
            )  # fmt: skip
        return Labels.build(asked, self.__boxes, "oracle")


def _check_classes(path: Path, wanted: Sequence[str], named: Sequence[str], with_boxes: set[str]) -> None:
    unknown = [name for name in wanted if name not in named]
    if unknown:
        raise ConfigError(
            f"labelling.classes: {path.name} has no class {unknown[0]!r}", got=some(unknown), expected=some(named, 20),
            fix=nearest(unknown[0], named) or "name classes of the annotation file",
        )  # fmt: skip
    empty = [name for name in wanted if name not in with_boxes]
    if empty:
        raise ConfigError(
            f"labelling.classes: {path.name} has no example of {empty[0]!r}", got=f"0 boxes of {some(empty)}",
            expected="at least one box of every class to learn", fix="leave these classes out",
        )  # fmt: skip
