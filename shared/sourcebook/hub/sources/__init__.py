"""Sources: plugins, their dumps, uploads and mappings."""
