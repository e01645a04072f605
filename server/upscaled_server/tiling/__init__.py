"""How an image is cut into pieces for a network, and where each piece belongs. Integers only."""
