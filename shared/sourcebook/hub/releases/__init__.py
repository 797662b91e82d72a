"""Releases: builds that an API serves, and what is said of them."""
