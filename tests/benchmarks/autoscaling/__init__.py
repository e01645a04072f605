"""How an autoscaled service follows a day's traffic: real queues and schedulers, simulated devices.

traffic.py     who asks for what, and when
replica.py     one server: the real admission and scheduler, and a device that takes the time it is told
scaler.py      how many replicas are wanted, by the rule of Kubernetes' horizontal autoscaler
simulate.py    a day of all of them, on a clock that jumps from event to event
scenarios.py   the days that are compared

What is simulated proves policies only: how queues, refusals and the number of replicas follow each other. It
says nothing of how fast a device is; that is put in.
"""
