"""Weight files: found, fetched, checked, and read into one neutral form (`state.StateDict`)."""
