"""How good a detector is: AP, AP50 and wMAP, per class and per object size."""

from poolscout.evaluation.coco_results import wmap
from poolscout.evaluation.detect import detect
from poolscout.evaluation.metrics import MemberMetrics, Metrics, evaluate
from poolscout.evaluation.size_weighted import DEFINITION, WmapResult

__all__ = ["DEFINITION", "MemberMetrics", "Metrics", "WmapResult", "detect", "evaluate", "wmap"]
