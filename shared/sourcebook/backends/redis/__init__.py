"""Redis or Valkey: locks."""
