"""The one way to change anything: commands are authorized, decided, appended; the conductor carries them through."""
