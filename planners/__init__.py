"""Planners that nnU-Net finds by name (`-pl`)."""
