"""The Python client of `upscaled`, the upscaling daemon.

    from upscaled import Client

    with Client("127.0.0.1:50051") as client:
        client.upscale("photo.jpg", scale=4).save("photo_x4.png")

`AsyncClient` is the same with `await`. Importing this package loads grpcio and protobuf and nothing heavier.
"""

from upscaled._aio import (
    AsyncClient,
    AsyncInputs,
    AsyncJob,
    AsyncJobs,
    AsyncModels,
    AsyncOutputs,
    AsyncStream,
)
from upscaled._blocking import Client, Inputs, Job, Jobs, Models, Outputs, Stream
from upscaled._errors import (
    AlreadyExistsError,
    AuthenticationError,
    BrokenStreamError,
    CallCancelledError,
    ClientClosedError,
    ConflictError,
    ConnectError,
    DataLossError,
    DeadlineExceededError,
    FailedPreconditionError,
    FieldViolation,
    InvalidOptionError,
    InvalidRequestError,
    LimitExceededError,
    NoDataError,
    NotFoundError,
    NotImplementedByServerError,
    OverloadedError,
    PermissionDeniedError,
    QuotaExceededError,
    ResourceExhaustedError,
    ServerError,
    SourceError,
    UnavailableError,
    UpscaledError,
    WebhookVerificationError,
)
from upscaled._info import Device, Limits, Model, OfficialFile, ServerInfo, Weights
from upscaled._jobs import Callback, InputSummary, JobEvent
from upscaled._options import Options
from upscaled._results import (
    Chunk,
    Credits,
    Done,
    Event,
    Output,
    Plan,
    Progress,
    Provenance,
    Result,
    Settings,
    Tile,
    Timings,
)
from upscaled._retry import Retries
from upscaled._stored import Input, SignedUrl
from upscaled._tracing import trace_parent
from upscaled._types import NOT_GIVEN, TLS, ImageSource, NotGiven, Tiles, Url
from upscaled._usage import ModelUsage, Usage
from upscaled._version import __version__

__all__ = [
    "NOT_GIVEN",
    "TLS",
    "AlreadyExistsError",
    "AsyncClient",
    "AsyncInputs",
    "AsyncJob",
    "AsyncJobs",
    "AsyncModels",
    "AsyncOutputs",
    "AsyncStream",
    "AuthenticationError",
    "BrokenStreamError",
    "CallCancelledError",
    "Callback",
    "Chunk",
    "Client",
    "ClientClosedError",
    "ConflictError",
    "ConnectError",
    "Credits",
    "DataLossError",
    "DeadlineExceededError",
    "Device",
    "Done",
    "Event",
    "FailedPreconditionError",
    "FieldViolation",
    "ImageSource",
    "Input",
    "InputSummary",
    "Inputs",
    "InvalidOptionError",
    "InvalidRequestError",
    "Job",
    "JobEvent",
    "Jobs",
    "LimitExceededError",
    "Limits",
    "Model",
    "ModelUsage",
    "Models",
    "NoDataError",
    "NotFoundError",
    "NotGiven",
    "NotImplementedByServerError",
    "OfficialFile",
    "Options",
    "Output",
    "Outputs",
    "OverloadedError",
    "PermissionDeniedError",
    "Plan",
    "Progress",
    "Provenance",
    "QuotaExceededError",
    "ResourceExhaustedError",
    "Result",
    "Retries",
    "ServerError",
    "ServerInfo",
    "Settings",
    "SignedUrl",
    "SourceError",
    "Stream",
    "Tile",
    "Tiles",
    "Timings",
    "UnavailableError",
    "UpscaledError",
    "Url",
    "Usage",
    "WebhookVerificationError",
    "Weights",
    "__version__",
    "trace_parent",
]
