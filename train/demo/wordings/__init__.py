"""Grammars that word a question."""
