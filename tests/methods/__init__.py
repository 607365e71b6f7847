"""Each method against its oracle."""
