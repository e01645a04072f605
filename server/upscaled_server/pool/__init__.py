"""Where networks run: one supervised worker process per device, and who gets its next step.

    pool.py        the way in: open a run, feed it, step it
    claim.py       who asks, with which right, and what it takes of a device
    admission.py   who may open a run, and who waits
    places.py      what devices offer, and who holds it
    backlog.py     how much is to be done before
    forecast.py    and how long that takes
    opening.py     from a ticket to an open run, and back
    run.py         one run, seen from the server
    turns.py       its steps, each in its turn
    life.py        its time in one worker
    replay.py      what the next worker needs to go on with it
    scheduler/     whose step is next: the policy
    dispatch.py    and its place on the event loop
    speed.py       how long it takes
    fleet.py       the workers of all devices
    supervisor.py  a device's worker over its lifetimes
    process.py     one worker process, seen from the server
    calls.py       what it was asked
    output.py      and what it writes
    models.py      what it has in memory
    worker.py      the worker process itself
    inference.py   its threads that compute
    faults.py      faults on purpose, for tests
    report.py      what it tells of itself
    factory.py     its engine
    protocol.py    what server and worker say
    transport.py   how it gets across
    pixels.py      and the pixels
    devices.py     what there is to run on
    stats.py       what all this is doing now, and has done

Importing this package imports nothing: the worker process must not load what only the server needs.
"""
