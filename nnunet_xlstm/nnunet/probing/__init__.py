"""Probes of frozen encoders on a data set."""
