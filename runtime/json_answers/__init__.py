"""Answers that are JSON and follow a schema, and that end within the tokens there are."""
