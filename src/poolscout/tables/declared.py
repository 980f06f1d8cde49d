"""Every artefact's columns, declared once. docs/tables.md is generated from here (`make docs`)."""

from __future__ import annotations

import pyarrow as pa

from poolscout.tables.schema import Column, TableSpec

_text, _f32, _i32, _i64, _bool = pa.string(), pa.float32(), pa.int32(), pa.int64(), pa.bool_()
_list = pa.list_(_f32)

CLASSES_KEY = b"poolscout.classes"  # in the metadata of a score table: the classes' names, as a JSON list
PROVENANCE_KEY = b"poolscout.probabilities"  # and of what kind the probabilities were
NOTES_KEY = b"poolscout.notes"  # in that of a selection: what is to be said of the whole batch, as a JSON list
ENSEMBLE = -1  # `member` of boxes decoded from the ensemble's mean map

_image_id = Column("image_id", _text, "", "path or URI relative to the pool's root; never a row number")
_box = (
    Column("x1_px", _f32, "px", "left edge in the upright image"),
    Column("y1_px", _f32, "px", "top edge in the upright image"),
    Column("x2_px", _f32, "px", "right edge, exclusive"),
    Column("y2_px", _f32, "px", "bottom edge, exclusive"),
)

POOL = TableSpec(
    "pool",
    1,
    "the images that may be picked, with any metadata column the source carries",
    (
        _image_id,
        Column("uri", _text, "", "where the bytes are"),
        Column("width", _i32, "px", "width of the upright image"),
        Column("height", _i32, "px", "height of the upright image"),
        Column("sequence", _text, "", "the recording the frame belongs to; its own image_id when unknown"),
        Column("frame", _i64, "", "position inside the sequence", nullable=True),
    ),
    open_to_metadata=True,
)

QUARANTINE = TableSpec(
    "quarantine",
    1,
    "images that could not be used, and why; the run goes on without them",
    (
        _image_id,
        Column("uri", _text, "", "where the bytes are, or were expected"),
        Column("stage", _text, "", "the stage that found it out: pool, training, scoring, embedding, evaluation"),
        Column(
            "reason",
            _text,
            "",
            "missing, unreadable, empty, truncated, undecodable, oversized, size differs, unsafe name",
        ),
        Column("detail", _text, "", "the decoder's words, or the sizes"),
    ),
)

LABELLED = TableSpec(
    "labelled",
    1,
    "one row per labelled image, also for images that show no object",
    (
        _image_id,
        Column("n_boxes", _i32, "boxes", "boxes kept for this image"),
        Column(
            "delivery",
            _i32,
            "",
            "the delivery that brought the current labels; a later one replaces an earlier",
        ),
        Column("source", _text, "", "who labelled: oracle, or the delivered file's name"),
    ),
)

BOXES = TableSpec(
    "boxes",
    1,
    "one row per labelled object",
    (_image_id, Column("class", _text, "", "class name"), *_box),
)

SCORES = TableSpec(
    "scores",
    1,
    "informativeness per image, higher = more informative; columns are named scorer_aggregate, in the scorer's unit",
    (
        _image_id,
        Column(
            "*_per_class", _list, "", "the aggregate of each class, in the order of the metadata's poolscout.classes"
        ),
        Column("*", _f32, "", "the highest of the classes; selection.over_classes may rank by another combination"),
    ),
)

EMBEDDINGS = TableSpec(
    "embeddings",
    1,
    "one vector per image: global average pool of the last backbone layer (of member 0, or of a pre-trained backbone)",
    (_image_id, Column("embedding", _list, "", "d numbers, the same d for all images")),
)

DETECTIONS = TableSpec(
    "detections",
    1,
    "one row per predicted box",
    (
        _image_id,
        Column("member", _i32, "", "ensemble member; -1 = decoded from the ensemble's mean map"),
        Column("class", _text, "", "class name"),
        Column("probability", _f32, "", "that the object is there; calibrated where a detector trained here gives it"),
        *_box,
    ),
)

BOX_COUNTS = ("image_id", "member", "probability")  # the columns that tell how many boxes an image shows

SELECTION = TableSpec(
    "selection",
    1,
    "the picked images in pick order, each with its reasons",
    (
        Column("rank", _i32, "", "0 = picked first"),
        _image_id,
        Column("score", _f32, "", "the score it was ranked by; empty for samplers that ignore scores", True),
        Column("class", _text, "", "the class whose turn it was, else the one that brings most of the score", True),
        Column("distance", _f32, "", "distance to the nearest centre when picked; empty where none is measured", True),
        Column("reason", _text, "", "the sampler, by which score, and which constraints moved it"),
        Column("labelled_already", _bool, "", "a repeated pick: weighs more in training and costs nothing"),
    ),
)

KEYS = TableSpec(
    "keys",
    1,
    "distances that a selection has calculated, for the next one to go on from",
    (
        _image_id,
        Column("distance2", pa.float64(), "", "least squared distance to the centres met; cosine: of unit vectors"),
        Column("nearest", _i32, "", "which centre that is: its row in the table of centres"),
        Column("met", _i64, "centres", "the first so many centres are met"),
        Column("embedding_print", pa.uint64(), "", "fingerprint of the embedding: another one makes the key void"),
    ),
)

KEY_CENTRES = TableSpec(
    "key_centres",
    1,
    "what those distances are to: labelled images, then picks, in the order in which they were met",
    (_image_id, Column("embedding_print", pa.uint64(), "", "fingerprint of the embedding")),
)

TABLES = (POOL, QUARANTINE, LABELLED, BOXES, SCORES, EMBEDDINGS, DETECTIONS, SELECTION, KEYS, KEY_CENTRES)
