"""Public data sets: what is known of each, and how its files become an nnU-Net data set."""
