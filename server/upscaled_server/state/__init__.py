"""What must outlive a process, and the folder it is kept in."""
