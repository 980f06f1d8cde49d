"""Selection algorithms on plain arrays, without registry or tables."""
