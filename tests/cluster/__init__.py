"""Whole clusters on this machine: three nodes of NATS, an object store, servers that share both, and Envoy in
front of them; each of them a process that can be killed, stopped and started again.

object_store.py  S3 as moto speaks it
replica.py       one server of several
edge.py          Envoy in front of all
whole.py         all of it together
demo/            `make cluster-demo`
"""
