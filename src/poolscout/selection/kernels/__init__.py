"""What samplers share at millions of embeddings: algorithms on arrays, which know of no table and no constraint."""
