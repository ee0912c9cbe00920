"""What frozen encoders know."""
