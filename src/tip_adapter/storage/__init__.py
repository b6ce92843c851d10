"""Write bytes to the disk whole or not at all, and read them back checked."""
