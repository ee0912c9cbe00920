"""The whole pipeline on phantoms, in one command."""
