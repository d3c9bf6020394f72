"""Entities by machine reading: a query for each type in front of the text, hard words and learned vectors, spans as answers."""
