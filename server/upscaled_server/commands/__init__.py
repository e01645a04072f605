"""The commands that administer a server, through its `Admin` service like any other client.

Imported at every start of `upscaled`, so what is heavy is imported inside the functions.
"""
