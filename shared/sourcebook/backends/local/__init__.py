"""The local disk: files."""
