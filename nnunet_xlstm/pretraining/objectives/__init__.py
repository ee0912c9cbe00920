"""Objectives of pre-training: a file each, and a table."""
