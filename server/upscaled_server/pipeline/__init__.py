"""One image's way from bytes to an encoded file, as a visible list of named steps (`upscale.py`)."""
