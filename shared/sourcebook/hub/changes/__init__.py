"""Changes: what differs between two collections, found, written, read and verified."""
