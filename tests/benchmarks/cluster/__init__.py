"""What a cluster costs and gains: the queue and the state by themselves, and whole servers on simulated
devices.

queue.py    what a job waits for the queue
feed.py     what every server pays for a change that another one made
scaling.py  one server, two and eight
"""
