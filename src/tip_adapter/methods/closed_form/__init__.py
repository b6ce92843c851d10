"""Methods that fit in closed form."""
