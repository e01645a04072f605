"""Wires what outlives calls: files, credits, jobs, callbacks."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from upscaled._version import __version__
from upscaled_server.access.caller import ANONYMOUS, Caller
from upscaled_server.access.credits import Credits
from upscaled_server.access.directory import Directory
from upscaled_server.access.prices import PriceSettings
from upscaled_server.access.stored_aside import AsideInStore
from upscaled_server.api.job_translate import JobMessages
from upscaled_server.api.jobs import rendered
from upscaled_server.api.statuses import to_message
from upscaled_server.api.stored_outputs import StoredOutputs
from upscaled_server.errors import NotFound
from upscaled_server.intake.fetch.fetcher import Fetcher
from upscaled_server.intake.fetch.settings import FetchSettings
from upscaled_server.intake.keeping import KeepingSettings
from upscaled_server.intake.secrets import Secrets, SecretSettings
from upscaled_server.intake.signing import SigningSettings, UrlSigner
from upscaled_server.intake.sources import Sources
from upscaled_server.intake.stored import StoredFiles
from upscaled_server.intake.upload import UploadMemory
from upscaled_server.jobs.book import Book
from upscaled_server.jobs.build import build_jobs
from upscaled_server.jobs.callbacks.post import Poster
from upscaled_server.jobs.callbacks.sender import CallbackSender
from upscaled_server.jobs.callbacks.settings import CallbackSettings
from upscaled_server.jobs.job import JobSource, Origin
from upscaled_server.jobs.ports import CheckOptions, Helpers
from upscaled_server.jobs.service import Jobs
from upscaled_server.jobs.settings import JobSettings
from upscaled_server.pipeline.limits import LimitSettings
from upscaled_server.pipeline.storing import Images
from upscaled_server.settings import Settings
from upscaled_server.shared_state import State
from upscaled_server.state.background import in_background
from upscaled_server.state.store import Store
from upscaled_server.storage.blobs import BlobStore
from upscaled_server.storage.settings import StorageSettings

SETTINGS = (
    StorageSettings,
    KeepingSettings,
    SecretSettings,
    SigningSettings,
    FetchSettings,
    PriceSettings,
    JobSettings,
    CallbackSettings,
)


@dataclass(frozen=True, slots=True)
class Stores:
    """What is there before images can be made."""

    store: Store
    blobs: BlobStore
    files: StoredFiles
    secrets: Secrets
    signer: UrlSigner
    fetcher: Fetcher
    sources: Sources
    credits: Credits
    keeping: KeepingSettings

    def outputs_of_calls(self) -> StoredOutputs:
        return StoredOutputs(self.files, self.signer.address, self.keeping.default_retention_seconds)


@asynccontextmanager
async def open_stores(folder: Path, state: State, settings: Settings) -> AsyncIterator[Stores]:
    """Files, keys and credits of a locked data folder. Raises `FailedPrecondition` for what an operator must
    mend."""
    limits, keeping = settings[LimitSettings], settings[KeepingSettings]
    store = state.store
    async with AsyncExitStack() as stack:
        blobs = await BlobStore.open(settings[StorageSettings], folder, has_peers=state.cluster is not None)
        memory = UploadMemory(limits.max_uploading_bytes)
        files = StoredFiles(
            store,
            blobs,
            keeping,
            max_input_bytes=limits.max_input_bytes,
            upload_idle_seconds=limits.upload_idle_seconds,
            memory=memory,
        )
        secrets = await Secrets.load(settings[SecretSettings], store)
        fetcher = Fetcher(settings[FetchSettings], memory)
        stack.push_async_callback(fetcher.aclose)
        aside = None if state.cluster is None else AsideInStore(store)
        credits_kept = Credits(store, settings[PriceSettings], aside=aside)
        stack.push_async_callback(credits_kept.aclose)
        if state.cluster is not None:
            await stack.enter_async_context(in_background(secrets.follow, files.follow, credits_kept.follow))
        yield Stores(
            store,
            blobs,
            files,
            secrets,
            UrlSigner(secrets.keys, settings[SigningSettings].public_url),
            fetcher,
            Sources(files, fetcher),
            credits_kept,
            keeping,
        )


@dataclass(frozen=True, slots=True)
class Durable:
    """Jobs that run, and what makes messages of them."""

    jobs: Jobs
    messages: JobMessages
    callbacks: CallbackSender


@asynccontextmanager
async def run_jobs(
    stores: Stores,
    images: Images,
    directory: Directory,
    check_options: CheckOptions,
    settings: Settings,
    *,
    state: State,
    pending_seconds: Callable[[], float],
) -> AsyncIterator[Durable]:
    """Jobs and callbacks of the last process go on while the context lasts, and those of others that share
    the state. `pending_seconds`: what the devices have to do already."""
    book = Book(stores.store)
    messages = JobMessages(stores.signer.address, __version__)
    poster = Poster(settings[CallbackSettings], lambda caller: _webhook_keys(stores.secrets, caller))
    callbacks = CallbackSender(
        book,
        poster,
        settings[CallbackSettings],
        lambda job: rendered(messages, job),
        duty=state.duty("callbacks"),
    )

    def caller_of(name: str) -> Caller | None:
        if name == ANONYMOUS.name:
            return ANONYMOUS
        try:
            return directory.caller(name).caller
        except NotFound:
            return None

    async def check_source(source: JobSource, caller: Caller) -> None:
        match source.origin:
            case Origin.URL:
                stores.fetcher.check(source.value)
            case Origin.INPUT:
                await stores.files.input(caller.name, source.value)
            case Origin.OUTPUT:
                await stores.files.output(caller.name, source.value)
            case Origin.INLINE:
                pass

    jobs = build_jobs(
        book,
        blobs=stores.blobs,
        images=images,
        sources=stores.sources,
        outputs=stores.files,
        callbacks=callbacks,
        helpers=Helpers(
            caller_of, check_options, check_source, lambda error: to_message(error).SerializeToString()
        ),
        settings=settings[JobSettings],
        keeping=stores.keeping,
        limits=settings[LimitSettings],
        sharing=state.sharing(pending_seconds),
        janitor_duty=state.duty("janitor"),
    )
    async with AsyncExitStack() as stack:
        await callbacks.start()
        stack.push_async_callback(callbacks.aclose)
        await jobs.start()
        stack.push_async_callback(jobs.stop)
        yield Durable(jobs, messages, callbacks)


@dataclass(frozen=True, slots=True)
class Deleting:
    """Deletes everything that is kept for a caller but what it was charged."""

    stores: Stores
    jobs: Jobs

    async def __call__(self, caller: str) -> None:
        await self.jobs.delete_all_of(caller)
        await self.stores.files.delete_all_of(caller)


def _webhook_keys(secrets: Secrets, caller: str) -> Sequence[bytes]:
    return [base64.b64decode(each.removeprefix("whsec_")) for each in secrets.webhook_secrets(caller)]
