"""Questions about scenes, with their answers."""
