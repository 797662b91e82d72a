"""What Sourcebook needs of an engine, as protocols; `backends/` has one file for each engine that gives it."""
