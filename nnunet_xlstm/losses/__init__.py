"""Losses of the supervised trainers."""
