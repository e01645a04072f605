"""The networks: which there are, where their weights come from, and running them over the rows of an
image."""
