"""A queue of work that replicas share: a stream of NATS JetStream, where each item is given to one replica
until that says it is done, or is not heard of any more.

Nothing here knows what the work is.

item.py        what lies in the queue, as a message
lane.py        which lane an item goes to, and what a lane's consumer and subject are called
stream.py      the streams and consumers behind the queue: made, checked, brought to the settings
fairness.py    which lane to look at next
pulls.py       asks a lane for one item
backlog.py     where something may lie: what replicas tell each other, and a look at the stream
dispatcher.py  gives items to those who wait for one
acks.py        what is said of an item, and confirmed
lease.py       one item that this replica has: prolonged, finished, given back
dead.py        items that were tried too often
queue.py       the `WorkQueue`
"""
