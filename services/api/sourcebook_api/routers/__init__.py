"""Hub control: one resource a file."""
