"""The only package that imports nnunetv2."""
