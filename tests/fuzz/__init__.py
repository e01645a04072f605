"""Input that nobody would write, given to everything that reads a stranger's bytes: `python -m tests.fuzz`.

guided/      targets that libFuzzer drives by coverage, through atheris, each in a process of its own
images.py    mutated image files through the codec processes, as a decode of the server goes
rpcs.py      mutated messages to every rpc of a running server, and streams out of order
uploads.py   the protocol of resumable uploads against a model of it, by hypothesis
seeds.py     what the mutations begin with
mutation.py  the mutations
record.py    what is written of a run
"""
