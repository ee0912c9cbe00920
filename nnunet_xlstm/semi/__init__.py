"""Semi-supervised training without nnU-Net: copy-paste, pseudo-labels, consistency, their loss and schedules."""
