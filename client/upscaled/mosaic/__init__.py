"""Tiles of one output put together, whole or as a preview. Needs Pillow: `pip install 'upscaled[images]'`.

mosaic = None
for event in client.upscale_stream("photo.jpg", tiles=True):
    if isinstance(event, Plan):
        mosaic = Mosaic.of(event)
    elif isinstance(event, Tile) and mosaic.add(event):
        mosaic.image().save("preview.png")
"""

from upscaled.mosaic._mosaic import Mosaic

__all__ = ["Mosaic"]
