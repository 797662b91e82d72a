"""OpenSearch: the search engine for many machines."""
