"""Who calls: keys, what a caller may do, and how much of it."""
