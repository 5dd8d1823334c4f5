"""A camera watched by a session: frames in, events out; frames on which nothing has changed are not asked about."""
