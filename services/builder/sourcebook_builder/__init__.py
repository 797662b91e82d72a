"""The builder service: merges uploads by _id into one collection."""
