"""Paired tests, bootstrap intervals and rankings; arrays in, arrays out."""
