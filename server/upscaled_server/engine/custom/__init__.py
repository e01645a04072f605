"""Models beyond the catalogue: any file in the model folder with a single-image super-resolution network that
spandrel knows.

    files.py      which files of the folder are meant
    load.py       from a file's bytes to a network, through spandrel
    measure.py    what the planner must know of it, measured in a process apart
    spec.py       one as the catalogue lists it
    scan.py       the folder's models as catalogue entries, kept up to date
    network.py    running one, as the torch backend runs the others
"""
