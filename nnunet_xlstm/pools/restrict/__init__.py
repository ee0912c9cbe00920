"""From predictions of a pool's network to the label maps of one data set, or of all targets."""
