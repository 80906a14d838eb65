"""A background cell does what the foreground would have done: the same notebooks, run both ways and compared."""
