"""The dumper service: downloads new releases of sources."""
