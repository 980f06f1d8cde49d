"""The one-stage U-Net: model, targets, loss, decode, calibration, and a trained member of the ensemble."""

from poolscout.detector.calibration import Calibration
from poolscout.detector.decode import Detections, decode
from poolscout.detector.io import load_member, save_member
from poolscout.detector.member import Member, MemberCard, MemberOutput
from poolscout.detector.model import DetectorOutput, UNet

__all__ = [
    "Calibration",
    "Detections",
    "DetectorOutput",
    "Member",
    "MemberCard",
    "MemberOutput",
    "UNet",
    "decode",
    "load_member",
    "save_member",
]
