"""Builds: what is merged from which uploads."""
