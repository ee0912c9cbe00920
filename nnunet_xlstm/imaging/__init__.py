"""Images and label maps on disk: reading, checking, writing."""
