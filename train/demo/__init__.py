"""A small world to learn from: pictures made by a program, with captions and questions whose answers are known."""
