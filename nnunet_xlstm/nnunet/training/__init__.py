"""Trainers: their bases, and what they are made of."""
