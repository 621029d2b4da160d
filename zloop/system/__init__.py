"""Child processes, signals, pipes and the default executor."""
