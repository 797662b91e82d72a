"""What a query means, whichever engine answers it: query strings, words, dates. Pure: no input or output here."""
