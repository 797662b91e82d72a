"""Upkeep: what is cleaned up, and whether what is stored is whole."""
