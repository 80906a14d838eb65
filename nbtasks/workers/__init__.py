"""Worker processes: how they are started, spoken to and ended, and what is sent there and back."""
