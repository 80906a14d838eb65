"""Fidelity: the same notebooks in the foreground and background, compared."""
