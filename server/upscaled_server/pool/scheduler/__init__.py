"""Who is next: pure policy, with the time passed in, so that it can be tested without devices.

entry.py    something that waits: who asks, how urgently, for how many device seconds
shares.py   how many device seconds each caller has had
queue.py    what waits, in the order of its turns
policy.py   units of work on devices: which go next, and which of them together
"""
