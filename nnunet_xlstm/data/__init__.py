"""Images without torch and without nnU-Net: phantoms, later pools."""
