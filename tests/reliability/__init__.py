"""What was tried against a server that runs, written down so that a page can be made of it."""
