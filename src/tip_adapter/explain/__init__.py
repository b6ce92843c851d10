"""Explain predictions by what the class texts and every shot contribute."""
