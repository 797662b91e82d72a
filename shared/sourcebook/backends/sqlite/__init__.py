"""SQLite: the hub's records and locks, in one file."""
