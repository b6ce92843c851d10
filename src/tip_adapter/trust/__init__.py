"""Say how good, how sure and how clean a classifier is."""
