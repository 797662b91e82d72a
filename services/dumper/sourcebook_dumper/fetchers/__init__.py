"""One file for each kind of URL a file can come from."""
