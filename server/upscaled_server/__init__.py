"""The upscaling daemon. `app.py` wires the parts; the folders name the way of an image."""
