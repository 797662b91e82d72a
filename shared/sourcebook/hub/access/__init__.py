"""Who asks, and (later) who may do what."""
