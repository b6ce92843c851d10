"""Hold all that is learned as data: shots, head, journal; saved, edited, undone."""
