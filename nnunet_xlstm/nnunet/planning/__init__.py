"""Plans: made, and read with every value checked."""
