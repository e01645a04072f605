"""What a fetcher of a test meets."""

from __future__ import annotations

from dataclasses import dataclass

from dns_stub import NameServer, StubResolver
from internet import Canary, Internet
from origin import OriginServer

from upscaled_server.intake.fetch.fetcher import Fetcher
from upscaled_server.intake.fetch.settings import FetchSettings
from upscaled_server.intake.upload import UploadMemory


@dataclass
class World:
    names: NameServer
    resolver: StubResolver
    origin: OriginServer
    canary: Canary
    internet: Internet
    memory: UploadMemory
    fetchers: list[Fetcher]

    def fetcher(self, **settings: object) -> Fetcher:
        made = Fetcher(
            FetchSettings(**settings),  # type: ignore[arg-type]
            self.memory,
            resolver=self.resolver,
            dial=self.internet,
        )
        self.fetchers.append(made)
        return made
