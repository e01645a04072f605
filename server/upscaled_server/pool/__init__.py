"""Where networks run: one supervised worker process per device, and who gets its next step.

    pool.py        the way in: open a run, feed it, step it
    opening.py     from a ticket to an open run, and back
    run.py         one run, seen from the server
    admission.py   who may open a run, and who waits
    turns.py       whose step is next
    speed.py       how long it takes
    supervisor.py  a device's worker over its lifetimes
    process.py     one worker process, seen from the server
    worker.py      the worker process itself
    factory.py     its engine
    protocol.py    what server and worker say
    transport.py   how it gets across
    pixels.py      and the pixels
    devices.py     what there is to run on

Importing this package imports nothing: the worker process must not load what only the server needs.
"""
