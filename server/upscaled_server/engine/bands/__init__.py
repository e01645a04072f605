"""Running a network over an image band by band, with the rows that the next band needs carried along.

Nothing is computed twice, memory depends on the image's width alone, and the first rows come early.

`graph.py` says what a network needs and yields, row by row; `flow.py` follows the rows of one image through
it; `ncnn_bands.py` and `torch_bands.py` compute; `wavefront.py` puts several cores on one image;
`finished.py` keeps the rows that are ready; `run.py` is the `Run` over all of it.
"""
