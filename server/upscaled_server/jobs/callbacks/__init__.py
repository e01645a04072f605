"""Telling receivers that a job has ended, by Standard Webhooks.

schedule.py    when the next try is
signature.py   the headers that a receiver verifies
index.py       what is due when, as it lies in the store
waiting.py     the same in memory: whose turn is next, and who has had enough at once
post.py        one try
sender.py      all of them, over restarts
clock.py       time, so that three days can be tested
settings.py
"""
