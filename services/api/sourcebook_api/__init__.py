"""The api service: the gateway: hub control and the query API."""
