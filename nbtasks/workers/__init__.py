"""Worker processes, and serialization to and from them."""
