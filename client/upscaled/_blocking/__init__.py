"""The clients for callers that block. Every method hands the same call to the asyncio core in a private event
loop; what a call does, and its documentation, is there.
"""

from upscaled._blocking.client import Client
from upscaled._blocking.jobs import Job, Jobs
from upscaled._blocking.parts import Inputs, Models, Outputs
from upscaled._blocking.stream import Stream

__all__ = ["Client", "Inputs", "Job", "Jobs", "Models", "Outputs", "Stream"]
