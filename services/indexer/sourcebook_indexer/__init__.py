"""The indexer service: indexes builds and switches APIs to them."""
