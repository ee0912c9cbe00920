"""Checkpoints: written, read without running what they hold, resumed."""
