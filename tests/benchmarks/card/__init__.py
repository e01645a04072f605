"""The parts of `tests.benchmarks.gpu`: what is run (`cases`), by whom (`contenders`), from a client to a
server and back (`end_to_end`), and how it is timed (`timing`)."""
