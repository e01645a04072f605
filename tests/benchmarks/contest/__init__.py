"""A contest of engines: the same images and weights, each engine in a process of its own, rounds
interleaved.

    cases.py      what is upscaled: models, sizes, pictures
    entrants/     who takes part, one file each
    child.py      the process of one entrant
    process.py    that process, seen from the contest
    turns.py      who runs when in a round
    weights.py    one set of weights for all
    accuracy.py   how far a result is from the whole image in torch fp32
    ledger.py     processor seconds of the server's processes
    machine.py    what it ran on
    record.py     the JSON: begun, added to, kept after every case
"""
