"""Scores of segmentations: one case, one folder, and what goes into summary.json."""
