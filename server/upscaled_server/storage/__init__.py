"""Files of callers, in a local folder or an object store. Knows paths and bytes; nothing of images."""
