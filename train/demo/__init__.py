"""Data of the demo model: images drawn by a program, with captions and questions whose answers are known."""
