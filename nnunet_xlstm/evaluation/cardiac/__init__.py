"""Volumes, ejection fraction and mass of the heart."""
