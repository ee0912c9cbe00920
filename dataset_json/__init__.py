"""Facts about datasets as JSON files, read with importlib.resources."""
