"""What plugin authors use: the manifest, discovery, parsers, hooks, and a test suite for plugins."""
