"""Embeddings of a pre-trained backbone, to choose from beside the detectors' own."""

from poolscout.embedding.backbones import Backbone
from poolscout.embedding.embed_pass import EmbeddingSummary, embed_pool
from poolscout.embedding.pretrained import pretrained_weights
from poolscout.embedding.weights import load_backbone

__all__ = ["Backbone", "EmbeddingSummary", "embed_pool", "load_backbone", "pretrained_weights"]
