"""Mappings: which field has which type, and what is searched by default."""
