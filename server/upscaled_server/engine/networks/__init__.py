"""The two network families as torch modules, with the tensor names of the upstream files."""
