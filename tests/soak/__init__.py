"""What must hold while a server works for long: `python -m tests.soak --corpus`."""
