"""A real server process, called as a client would."""
