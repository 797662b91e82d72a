"""The uploader service: turns downloaded files into collections of documents, and infers their mapping."""
