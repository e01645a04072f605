"""Which models a device's worker has in its memory, and which it lets go of for others."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from upscaled_server.engine.catalogue import Catalogue
from upscaled_server.engine.custom.spec import CustomModel
from upscaled_server.engine.provenance import Provenance, WeightsSource
from upscaled_server.engine.variant import Variant
from upscaled_server.errors import DomainError, FailedPrecondition, Unavailable, WorkerLost
from upscaled_server.pool.process import WorkerProcess

log = logging.getLogger("upscaled_server.pool")

# By variant and the file of a model of the folder, so that a changed file is loaded anew.
_Key = tuple[Variant, str]


class WorkerModels:
    """Models are loaded when they are wanted first; the least recently used that nobody uses are let go of
    while all of them take more than `budget_bytes`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        available: Callable[[], Awaitable[WorkerProcess]],
        *,
        load_limit_seconds: float,
        warm_limit_seconds: float,
        budget_bytes: int,
    ) -> None:
        self._catalogue = catalogue
        self._available = available
        self._load_limit_seconds = load_limit_seconds
        self._warm_limit_seconds = warm_limit_seconds
        self._budget_bytes = budget_bytes
        self._loads: dict[_Key, asyncio.Task[Provenance]] = {}
        # By their last use, the latest at the end.
        self._bytes: OrderedDict[str, int] = OrderedDict()
        self._users: Counter[str] = Counter()
        self._leaving: dict[str, asyncio.Task[bool]] = {}

    @property
    def loaded(self) -> frozenset[str]:
        """By the names they were asked for."""
        return frozenset(variant.model for (variant, _), task in self._loads.items() if _succeeded(task))

    @contextmanager
    def used(self, model: str) -> Iterator[None]:
        """While this is entered the model is not let go of."""
        self._users[model] += 1
        try:
            yield
        finally:
            self._users[model] -= 1
            if not self._users[model]:
                del self._users[model]

    async def load(self, variant: Variant) -> Provenance:
        """Callers of one variant share one attempt, which goes on when they leave."""
        worker = await self._available()
        leaving = self._leaving.get(variant.model)
        if leaving is not None:
            await asyncio.wait([leaving])
        spec = self._catalogue.resolve(variant.model)
        custom = spec if isinstance(spec, CustomModel) else None
        if variant.denoise is not None:
            # The engine keeps the last few of these only, so it is told of every use.
            return await self._load(worker, variant, custom)
        key = (variant, "" if custom is None else custom.sha256)
        loading = self._loads.get(key)
        if loading is None or (loading.done() and not _succeeded(loading)):
            loading = self._loads[key] = asyncio.get_running_loop().create_task(
                self._load(worker, variant, custom), name=f"load {variant}"
            )
            loading.add_done_callback(_look_at)
        if variant.model in self._bytes:
            self._bytes.move_to_end(variant.model)
        return await asyncio.shield(loading)

    async def unload(self, model: str) -> bool:
        """Raises `FailedPrecondition` while the model is in use."""
        if self._users[model]:
            raise FailedPrecondition(f"{model} is in use by {self._users[model]} images")
        return await asyncio.shield(self._leaving.get(model) or self._begin_unloading(model))

    async def begin(self, worker: WorkerProcess, names: Sequence[str]) -> tuple[str, ...]:
        """A new worker, in which nothing is loaded: load what is named and what the last one used, and
        compute something with it, so that nobody has to wait for it.

        A model that cannot be loaded is left to those who ask for it; the names of those that were asked for
        are returned. Raises `WorkerLost`; then what the last one used is forgotten, since it may be the
        reason.
        """
        before, self._loads = [key for key, task in self._loads.items() if _succeeded(task)], {}
        self._bytes.clear()
        missing = await self.warm(worker, [*map(Variant, names), *(variant for variant, _ in before)])
        return tuple(name for name in names if Variant(name) in missing)

    async def warm(self, worker: WorkerProcess, variants: Sequence[Variant]) -> set[Variant]:
        """Load these and compute something with each. Gives back those that it could not be done with; why is
        in the log. Raises `WorkerLost`.
        """
        missing = set[Variant]()
        for variant in dict.fromkeys(variants):
            try:
                await self._warm(worker, variant)
            except WorkerLost:
                raise
            except DomainError as error:
                missing.add(variant)
                log.warning("%s could not be made ready beforehand: %s", variant.model, error.message)
        return missing

    async def _warm(self, worker: WorkerProcess, variant: Variant) -> None:
        spec = self._catalogue.resolve(variant.model)
        custom = spec if isinstance(spec, CustomModel) else None
        loading = asyncio.get_running_loop().create_task(self._load(worker, variant, custom))
        loading.add_done_callback(_look_at)
        await loading
        self._loads[variant, "" if custom is None else custom.sha256] = loading
        try:
            async with asyncio.timeout(self._warm_limit_seconds):
                await worker.call("warm", variant=variant.to_dict())
        except TimeoutError:
            worker.kill()
            raise WorkerLost(f"{variant.model} computed nothing in time", model=variant.model) from None

    async def _load(self, worker: WorkerProcess, variant: Variant, custom: CustomModel | None) -> Provenance:
        try:
            async with asyncio.timeout(self._load_limit_seconds):
                described = None if custom is None else custom.to_dict()
                answer = await worker.call("load", variant=variant.to_dict(), custom=described)
        except TimeoutError:
            raise Unavailable(f"{variant} could not be loaded in time", model=variant.model) from None
        packed = answer.result["provenance"]
        size = int(answer.result["bytes"]) + self._bytes.get(variant.model, 0)
        self._bytes[variant.model] = size
        self._bytes.move_to_end(variant.model)
        self._make_room(variant.model)
        return Provenance(**{**packed, "weights": WeightsSource(**packed["weights"])})

    def _make_room(self, wanted: str) -> None:
        total = sum(self._bytes.values())
        for model, size in list(self._bytes.items()):
            if total <= self._budget_bytes:
                return
            if model != wanted and not self._users[model] and model not in self._leaving:
                log.info("%s is let go of for %s", model, wanted)
                total -= size
                self._begin_unloading(model)

    def _begin_unloading(self, model: str) -> asyncio.Task[bool]:
        leaving = asyncio.get_running_loop().create_task(self._unload(model), name=f"unload {model}")
        self._leaving[model] = leaving

        def left(_: asyncio.Task[bool]) -> None:
            del self._leaving[model]

        leaving.add_done_callback(_look_at)
        leaving.add_done_callback(left)
        return leaving

    async def _unload(self, model: str) -> bool:
        worker = await self._available()
        answer = await worker.call("unload", model=model)
        self._loads = {key: task for key, task in self._loads.items() if key[0].model != model}
        self._bytes.pop(model, None)
        return bool(answer.result["unloaded"])


def _succeeded(task: asyncio.Task[Provenance]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _look_at(task: asyncio.Task[Provenance] | asyncio.Task[bool]) -> None:
    if not task.cancelled():
        task.exception()  # the callers that are still there get it; with none left it is no news
