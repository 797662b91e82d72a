"""The dumper service: downloads new versions of sources."""
