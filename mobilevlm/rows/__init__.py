"""Rows of conversations in files: how they are read, which forms they come in, and what makes one unusable."""
