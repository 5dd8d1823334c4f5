"""The demo's world: scenes, layouts, drawings and the facts about them."""
