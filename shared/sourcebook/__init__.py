"""Sourcebook turns data sources into searchable, always current APIs."""

__version__ = "0.1.0"
