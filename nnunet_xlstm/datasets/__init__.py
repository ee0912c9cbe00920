"""Raw data sets of nnU-Net: made, read, checked, split by subject."""
