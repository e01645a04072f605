"""Work that outlives calls, and the process.

job.py         what a job is, and which states follow each other
records.py     how it lies in the store
book.py        the jobs in the store: one entry each, changed one by one
board.py       those that have not ended: who waits for news of them, what stands where
queue.py       whose turn is next
local_….py     board and queue of a server by itself
shared_….py    those of a server among others, and what one of them does for all
standing.py    how far the work on a job is, as one server tells others
creation.py    from a request to an acknowledged job, in steps that can be taken up again
room.py        whether there is room for one more
runner.py      runs them, a bounded number at a time
work.py        one attempt at one job
ending.py      from the last row to a final state, in steps that can be taken up again
recovery.py    what a server by itself finds of the life before
listing.py     pages of a caller's jobs
following.py   events and tiles of one job, from where a reader was
janitor.py     what has expired
service.py     all of it, as `api` sees it
ports.py       what other parts of the server do for it
build.py       puts the parts together
callbacks/     telling receivers
"""
