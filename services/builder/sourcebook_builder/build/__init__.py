"""Builds: uploads merged by _id into one collection, whole or by what changed."""
