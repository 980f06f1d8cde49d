"""Labels: what has been delivered, the oracle that plays the human, and the files a human works with."""

from poolscout.labels.delivery import Receipt, add_delivery, read_delivery
from poolscout.labels.oracle import Oracle
from poolscout.labels.request import link_name, request_labels
from poolscout.labels.store import Labels, LabelStore, sizes_of

__all__ = [
    "LabelStore",
    "Labels",
    "Oracle",
    "Receipt",
    "add_delivery",
    "link_name",
    "read_delivery",
    "request_labels",
    "sizes_of",
]
