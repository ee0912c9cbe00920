"""Commands of nnU-Net and of ours as child processes."""
