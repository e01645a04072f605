"""Networks on a CUDA card.

`lane.py` has the card's streams and moves pixels; `fused.py` and `triton_kernels.py` have what is done
between convolutions; `forms.py` says in which form a network is computed; `precision.py` finds the form and
the precision that keep the promised accuracy; `programs.py` records the work for a shape as a CUDA graph;
`network.py` is the `LoadedNetwork` over all of it. Everything takes a device, and on a CPU does the same
arithmetic without streams and graphs.
"""
