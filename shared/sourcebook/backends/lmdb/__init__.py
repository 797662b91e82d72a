"""LMDB: documents, one folder a collection."""
