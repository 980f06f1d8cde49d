"""Annotation files in and out."""

from poolscout.formats.coco import read_coco, read_coco_images, write_coco
from poolscout.formats.content import AnnotatedImage, Annotations

__all__ = ["AnnotatedImage", "Annotations", "read_coco", "read_coco_images", "write_coco"]
