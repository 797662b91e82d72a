"""Documents: the form in which they are stored, and how two of them merge."""
