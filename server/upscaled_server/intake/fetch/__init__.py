"""Images fetched for callers, from addresses that callers choose.

urls.py         what a URL must look like, and how it is shown
addresses.py    which addresses are public
allowed.py      what the operator opens besides
guard.py        every address is checked where it is dialled
resolver.py     names to addresses
network.py      httpcore's sockets, behind the guard
transport.py    httpx's requests over those sockets, or over the configured proxy
failures.py     what went wrong, in words that give nothing away
body.py         the answer, under limits of size, pace and decompression
objects.py      s3:// and gs:// from allowed buckets
fetcher.py      all of it, with redirects
"""
