"""The query API of a release."""
