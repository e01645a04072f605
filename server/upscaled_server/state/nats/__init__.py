"""The store of many servers: a key-value bucket of NATS JetStream (nats-server 2.10.25 or later; 2.9 with
one replica).

It is for replicas that share their state; a server by itself keeps it in SQLite. Needs the extra `cluster`.

settings.py     where the cluster is, and how the bucket and the queue are made
credentials.py  a user's credentials, and signing with them
connection.py   one connection that is kept up; deadlines; NATS's errors in the domain's words
streams.py      streams: made, checked, brought to the settings
bucket.py       the stream behind the bucket, and its schema
subjects.py     keys as subjects
keys.py         every key in memory, in order: NATS itself has no ordered scan
feed.py         what keeps that current
values.py       values that were read or written lately
sweeper.py      removes what deletions leave behind
store.py        the `Store`
news.py         what replicas tell each other and nobody keeps
work/           the queue of work that replicas share
"""
