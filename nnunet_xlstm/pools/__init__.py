"""Several data sets as one, each labelling some of the targets."""
