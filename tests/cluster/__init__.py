"""Whole clusters on this machine: three nodes of NATS, an object store, servers that share both, and Envoy in
front of them; each of them a process that can be killed, stopped and started again.

replica.py   one server of several
edge.py      Envoy in front of all
whole.py     all of it together
cutting.py   the network between one server and NATS
faults.py    who is killed, and when
traffic.py   jobs, and what became of them
demo/        `make cluster-demo`
"""
