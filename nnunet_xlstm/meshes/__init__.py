"""Surface meshes of label maps."""
