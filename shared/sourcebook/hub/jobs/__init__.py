"""Jobs: one run of a stage each."""
