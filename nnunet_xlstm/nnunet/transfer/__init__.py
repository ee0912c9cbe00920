"""Trained weights fitted to another data set's network."""
