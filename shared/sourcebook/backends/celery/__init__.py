"""Celery on Redis or Valkey: the bus."""
