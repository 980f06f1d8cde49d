"""Evidence: strategies compared over paired seeds, with intervals, corrected tests and their cost."""
