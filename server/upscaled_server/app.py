"""Wires the parts into a server. The only file that knows them all."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

import grpc.aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from upscaled._version import __version__
from upscaled.v1 import (
    account_pb2,
    account_pb2_grpc,
    admin_pb2,
    admin_pb2_grpc,
    blobs_pb2,
    blobs_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
    upscaler_pb2,
    upscaler_pb2_grpc,
)
from upscaled_server import durable
from upscaled_server.access.access import Access
from upscaled_server.access.caller import Caller
from upscaled_server.access.mounted import read_mounted
from upscaled_server.access.settings import AccessSettings
from upscaled_server.access.tokens import Tokens, TokenSettings
from upscaled_server.administration import administration
from upscaled_server.api.access_interceptor import AccessInterceptor
from upscaled_server.api.account import AccountServicer
from upscaled_server.api.admin import AdminServicer
from upscaled_server.api.blobs import BlobsServicer
from upscaled_server.api.channel import channel_options
from upscaled_server.api.errors_interceptor import ErrorInterceptor
from upscaled_server.api.health import Health
from upscaled_server.api.jobs import JobsServicer
from upscaled_server.api.listen import ListenSettings, bind, check_exposure
from upscaled_server.api.models import ModelsServicer
from upscaled_server.api.server import ServerServicer
from upscaled_server.api.tls import TlsSettings, server_credentials
from upscaled_server.api.trace_interceptor import TraceInterceptor
from upscaled_server.api.upscaler import UpscalerServicer
from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.custom.scan import FolderModels
from upscaled_server.engine.machine import usable_cores
from upscaled_server.engine.weights.inventory import Inventory
from upscaled_server.engine.weights.settings import WeightSettings
from upscaled_server.engine.weights.store import WeightStore
from upscaled_server.intake.secrets import SecretSettings, given_keys
from upscaled_server.media.codec import CodecHost
from upscaled_server.media.codec.formats import accepted_content_types
from upscaled_server.observation import Observed, observed
from upscaled_server.pipeline.charging import Charging
from upscaled_server.pipeline.decoding import DecodeSettings
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.request import Options
from upscaled_server.pipeline.settle import Settled, settle
from upscaled_server.pipeline.upscale import Upscaling
from upscaled_server.pool.pool import Pool
from upscaled_server.pool.settings import PoolSettings
from upscaled_server.process import (
    allow_many_descriptors,
    keep_freed_pages,
    leave_out_of_collections,
)
from upscaled_server.settings import Settings
from upscaled_server.shared_state import State, check_state, open_state
from upscaled_server.state.folder import DataFolder, StateSettings
from upscaled_server.state.nats.settings import ClusterSettings
from upscaled_server.storage.settings import StorageSettings
from upscaled_server.telemetry.logs import LogSettings
from upscaled_server.telemetry.otlp import TracingSettings, exported
from upscaled_server.telemetry.probes import ProbeSettings

log = logging.getLogger(__name__)

SETTINGS = (
    ListenSettings,
    TlsSettings,
    AccessSettings,
    TokenSettings,
    LimitSettings,
    DecodeSettings,
    PoolSettings,
    WeightSettings,
    StateSettings,
    ClusterSettings,
    LogSettings,
    TracingSettings,
    ProbeSettings,
    *durable.SETTINGS,
)

_STOP_SECONDS = 60.0

# How far encoders step back behind a CPU worker. Its threads wait for each other's rows, so whatever
# interrupts one of them holds up the others too, while what is encoded is waited for by the caller alone.
_ENCODERS_NICER = 5

_OUTPUT_FORMATS = ("image/png", "image/jpeg", "image/webp", "image/tiff", "image/avif")

_SERVICES = {
    "Upscaler": upscaler_pb2,
    "Models": models_pb2,
    "Server": server_pb2,
    "Jobs": jobs_pb2,
    "Blobs": blobs_pb2,
    "Account": account_pb2,
    "Admin": admin_pb2,
}

# Services that nothing can be done with while what is kept cannot be reached.
_KEPT_IN_STATE = ("Jobs", "Blobs", "Account", "Admin")


class App:
    """One server. `start` and `stop` are called once each; between them `address` says where it listens."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listen = settings[ListenSettings]
        self._access = settings[AccessSettings]
        self._limits = settings[LimitSettings]
        self._decoding = settings[DecodeSettings]
        self._codec = CodecHost(self._decoding.codec())
        weights = settings[WeightSettings].store_options()
        self._inventory = Inventory(WeightStore(weights))
        self._catalogue = Catalogue()
        self._folder_models = FolderModels(self._catalogue, weights.folder, weights.cache)
        self._pool = Pool(settings[PoolSettings], weights, catalogue=self._catalogue)
        self._folder = DataFolder(settings[StateSettings].data_dir)
        self._health = Health(map(_full_name, _SERVICES))
        self._errors = ErrorInterceptor()
        self._stack = AsyncExitStack()
        self._server: grpc.aio.Server | None = None
        self._readiness: asyncio.Task[None] | None = None
        self._durable: durable.Durable | None = None
        self.address = ""

    async def start(self) -> None:
        """Come up in the order of the image's way; SERVING is said last, when the models that are to be warm
        are.

        Raises the domain's errors for what an operator must mend.
        """
        allow_many_descriptors()
        try:
            # Health can be asked before the rest is up, and takes a server for serving until it is told.
            await self._health.ready(False)
            self._stack.enter_context(self._folder)
            # Before anything starts threads: the codec process is forked from.
            await self._codec.start()
            self._stack.push_async_callback(self._codec.aclose)
            keep_freed_pages()  # while there is one heap: those that there are stay
            self._stack.enter_context(exported(self._settings[TracingSettings], __version__))
            state = await self._stack.enter_async_context(
                open_state(
                    self._folder.path, self._settings[ClusterSettings], self._settings[StorageSettings]
                )
            )
            access, admin = await self._stack.enter_async_context(self._administration(state))
            check_exposure(self._listen, has_keys=access.knows_somebody)
            await self._pool.start()
            self._stack.push_async_callback(self._pool.aclose)
            executor = ThreadPoolExecutor(
                usable_cores(),
                thread_name_prefix="upscaled-rows",
                initializer=os.nice,  # of the thread, on Linux
                initargs=(self._settings[PoolSettings].worker_nice + _ENCODERS_NICER,),
            )
            self._stack.callback(executor.shutdown, wait=True, cancel_futures=True)
            stores = await self._stack.enter_async_context(
                durable.open_stores(self._folder.path, state, self._settings)
            )
            upscaling = self._make_upscaling(executor, stores)
            self._durable = await self._stack.enter_async_context(
                durable.run_jobs(
                    stores,
                    upscaling,
                    access.directory,
                    self._check_options,
                    self._settings,
                    state=state,
                    pending_seconds=lambda: self._pool.stats.seconds_pending,
                )
            )
            if state.cluster is not None:
                connected = state.cluster.tell_whether_connected(self._tell_connected)
                watching = asyncio.create_task(connected, name="cluster")
                self._stack.push_async_callback(_cancelled, watching)
            admin.delete_all_of = durable.Deleting(stores, self._durable.jobs)
            self._server = self._make_server(access, admin, upscaling, stores, self._durable)
            files = self._settings[TlsSettings].files
            credentials = None if files is None else server_credentials(*files)
            self.address = bind(self._server, self._listen.listen, credentials)
            watching = asyncio.create_task(self._folder_models.watch(), name="model folder")
            self._stack.push_async_callback(_cancelled, watching)
            self._stack.enter_context(
                observed(self._settings[ProbeSettings], self._observed(stores, self._durable))
            )
            await self._server.start()
        except BaseException:  # a cancellation too
            await self._stack.aclose()
            raise
        await self._health.live()
        await self._health.ready(self._pool.ready)
        self._readiness = asyncio.create_task(self._tell_readiness(), name="readiness")
        log.info("serving on %s", self.address)

    async def stop(self) -> None:
        """Stop in order: health turns first, then new calls are refused, running ones get the grace
        period."""
        log.info("stopping: health is NOT_SERVING, running calls have %g seconds", self._listen.grace_seconds)
        if self._readiness is not None:
            await _cancelled(self._readiness)
        await self._health.ready(False)
        if self._durable is not None:
            # First, so that running calls have the devices to themselves, and none waits for a job.
            await self._durable.jobs.stop()
        if self._server is not None:
            # grpc's own grace period ends later than ours, in any case: it would cancel calls of a server
            # that the stop without one has freed meanwhile, and end the process with a fault.
            longer = self._listen.grace_seconds + _STOP_SECONDS
            stopping = asyncio.create_task(self._server.stop(longer))
            # Health and reflection streams never end by themselves and would take the whole grace period.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._errors.wait_idle(), self._listen.grace_seconds)
            await self._server.stop(None)
            await stopping
        await self._stack.aclose()
        log.info("stopped")

    def _administration(self, state: State) -> AbstractAsyncContextManager[tuple[Access, AdminServicer]]:
        return administration(
            self._folder.path,
            state.store,
            self._access,
            self._catalogue,
            self._pool,
            optional=self._listen.auth == "none",
            shared=state.cluster is not None,
            tokens=self._settings[TokenSettings],
            health=self._health,
        )

    def _observed(self, stores: durable.Stores, running: durable.Durable) -> Observed:
        return Observed(
            self._pool,
            self._codec,
            stores,
            running,
            self._folder.path,
            self._settings[TlsSettings].tls_cert_file,
            lambda: self._health.is_ready,
        )

    def _check_options(self, options: Options, caller: Caller) -> Settled:
        return settle(options, self._catalogue, self._limits, self._pool.backends, caller)

    def _make_upscaling(self, executor: Executor, stores: durable.Stores) -> Upscaling:
        return Upscaling(
            self._catalogue,
            self._codec,
            self._pool,
            limits=self._limits,
            decode_limits=self._decoding.limits(self._limits.max_input_pixels),
            executor=executor,
            charging=Charging(stores.credits),
            sources=stores.sources,
        )

    def _make_server(
        self,
        access: Access,
        admin: AdminServicer,
        upscaling: Upscaling,
        stores: durable.Stores,
        running: durable.Durable,
    ) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[
                TraceInterceptor(),
                self._errors,
                AccessInterceptor(access, max_message_seconds=self._limits.max_message_seconds),
            ],
            options=channel_options(self._limits.max_message_bytes),
        )
        upscaler_pb2_grpc.add_UpscalerServicer_to_server(
            UpscalerServicer(upscaling, self._limits, __version__, stores.outputs_of_calls()), server
        )
        models_pb2_grpc.add_ModelsServicer_to_server(
            ModelsServicer(self._catalogue, self._inventory, self._pool, self._limits), server
        )
        server_pb2_grpc.add_ServerServicer_to_server(
            ServerServicer(
                self._pool,
                self._limits,
                access,
                version=__version__,
                input_formats=accepted_content_types(),
                output_formats=_OUTPUT_FORMATS,
                keeping=stores.keeping,
            ),
            server,
        )
        jobs_pb2_grpc.add_JobsServicer_to_server(
            JobsServicer(running.jobs, running.messages, stores.keeping, self._limits), server
        )
        blobs_pb2_grpc.add_BlobsServicer_to_server(
            BlobsServicer(stores.files, stores.signer, self._limits), server
        )
        account_pb2_grpc.add_AccountServicer_to_server(
            AccountServicer(stores.credits, stores.files.stored_bytes, stores.secrets.webhook_secrets), server
        )
        admin_pb2_grpc.add_AdminServicer_to_server(admin, server)
        self._health.add_to(server)
        names = [_full_name(service) for service in _SERVICES]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        return server

    async def _tell_connected(self, connected: bool) -> None:
        """Calls that make an image at once need nothing of the cluster; all else does."""
        log.log(
            logging.INFO if connected else logging.WARNING,
            "the cluster %s be reached",
            "can" if connected else "cannot",
        )
        for service in _KEPT_IN_STATE:
            await self._health.impaired(_full_name(service), not connected)

    async def _tell_readiness(self) -> None:
        """Health follows the pool: SERVING once the models of `UPSCALED_WARM_MODELS` are warm."""
        async for ready in self._pool.readiness():
            log.info("health is %s", "SERVING" if ready else "NOT_SERVING")
            await self._health.ready(ready)


def check(settings: Settings) -> None:
    """Look at what the settings name, without starting: certificates, a file of keys, signing keys, packages.

    The data folder, devices and everything on the network are left alone. Raises the domain's errors for what
    a start would refuse.
    """
    if (files := settings[TlsSettings].files) is not None:
        server_credentials(*files)
    if (path := settings[AccessSettings].api_keys_file) is not None:
        read_mounted(path)
    given_keys(settings[SecretSettings])
    check_state(settings[ClusterSettings], settings[StorageSettings])
    if settings[TokenSettings].jwt_jwks:
        Tokens(settings[TokenSettings])


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal stops it at once. `announce` gets the address
    once it serves."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            # The grace period is cut short by ending the process; workers and codec processes end with it.
            os._exit(130)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    app = App(settings)
    await app.start()
    try:
        leave_out_of_collections()
        announce(app.address)
        await stopping.wait()
    finally:
        await app.stop()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _full_name(service: str) -> str:
    return str(_SERVICES[service].DESCRIPTOR.services_by_name[service].full_name)
