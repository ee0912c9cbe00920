"""Collapse of pre-training: what is measured, and what it means."""
