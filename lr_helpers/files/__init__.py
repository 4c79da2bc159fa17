"""Pictures and records on disk: reading, atomic writing, locks, names, and where the course lies."""
