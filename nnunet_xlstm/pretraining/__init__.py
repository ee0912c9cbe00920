"""Self-supervised pre-training: views, student and teacher, objectives, and the collapse monitor."""
