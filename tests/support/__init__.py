"""What several test modules need: a real stack of processes and a plugin whose speed can be controlled."""
