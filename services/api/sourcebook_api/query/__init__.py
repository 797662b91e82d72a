"""The query API: the contract that BioThings clients speak, one routed app for each API."""
