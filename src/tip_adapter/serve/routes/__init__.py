"""What a service answers to, by room: predictions, shots and classes, how it is."""
