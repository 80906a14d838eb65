"""The threads that serve the shell channel, and the choice between them."""
