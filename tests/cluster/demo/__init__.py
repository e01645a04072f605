"""`make cluster-demo`: jobs at a cluster on this machine, of which parts are killed on the way."""
