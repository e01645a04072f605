"""Decoding of untrusted bytes, each image in a process of its own that may crash, hang or swell without harm.

    host.py       the server's side: CodecHost.decode and .probe
    admission.py  how many decodes run and how much memory they may hold together
    link.py       the server's end of the zygote's control socket
    channel.py    the server's end of one decode's row socket
    wire.py       the messages on both
    zygote.py     a small process that has Pillow loaded and forks a child per image
    child.py      what a child does: give up its rights, read the header, ask, decode, stream rows
    sandbox.py    the rights it gives up
    source.py     Pillow behind an explicit list of formats
    structure.py  cheap checks of a file's structure that Pillow leaves out
    colour.py     a file's profile: to sRGB, or the reason why not
    described.py  colour that a file describes in numbers, made into a profile
    littlecms.py  the library that knows profiles
    deep.py       16-bit colour, which Pillow alone reduces to 8
    bleed.py      the colour of visible pixels, extended under transparent ones
    pixels.py     each of Pillow's modes to rows of grey or RGB with or without alpha
    refusals.py   what Pillow raises, in the words of our errors

The modules from zygote.py down run in the codec processes only; the others never import Pillow.
"""

from upscaled_server.media.codec.host import CodecHost, Converter, DecodedImage
from upscaled_server.media.codec.limits import CodecSettings, DecodeLimits

__all__ = ["CodecHost", "CodecSettings", "Converter", "DecodeLimits", "DecodedImage"]
