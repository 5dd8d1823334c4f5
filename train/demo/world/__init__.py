"""Scenes of the demo, how they are drawn, and the facts about them."""
