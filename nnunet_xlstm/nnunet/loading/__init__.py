"""From files to batches: cases, augmentation, views, worker processes."""
