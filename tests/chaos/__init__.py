"""What must hold while things break: long forms, each a command of its own."""
