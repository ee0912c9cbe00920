"""The one renderer of every page that the package writes."""
