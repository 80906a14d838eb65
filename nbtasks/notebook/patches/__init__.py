"""Monkeypatches of IPython, matplotlib and the standard library."""
