"""MongoDB: documents and the hub's records."""
