"""Heart phantoms with known answers."""
