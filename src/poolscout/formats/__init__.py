"""Annotation files in and out."""

from poolscout.formats.coco import CocoFile, CocoImage, read_coco, read_coco_images, write_coco

__all__ = ["CocoFile", "CocoImage", "read_coco", "read_coco_images", "write_coco"]
