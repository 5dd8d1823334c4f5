"""Grammars from which the wordings of questions are drawn."""
