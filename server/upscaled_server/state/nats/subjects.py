"""Keys as subjects of NATS: `jobs/anna/1` is `$KV.BUCKET.jobs.anna.1`.

Parts of a key hold neither dots nor wildcards and are never empty, so no two keys share a subject, and
`jobs/anna` followed by `.>` is what lies under it. A subject may be 4096 bytes long; a key is 512 at most.
"""

from __future__ import annotations

from dataclasses import dataclass

# Entries of the store's own. Their names are one part with a slash in it, which no key of a caller can have.
SCHEMA = "/schema"
SWEEP = "/sweep"


def is_own(key: str) -> bool:
    """Whether the entry is of the store itself, and nobody else's business."""
    return key.startswith("/")


@dataclass(frozen=True, slots=True)
class Subjects:
    bucket: str

    @property
    def stream(self) -> str:
        return f"KV_{self.bucket}"

    @property
    def all(self) -> str:
        return f"$KV.{self.bucket}.>"

    def of(self, key: str) -> str:
        return f"$KV.{self.bucket}.{key if is_own(key) else key.replace('/', '.')}"

    def key(self, subject: str) -> str:
        name = subject.removeprefix(f"$KV.{self.bucket}.")
        return name if is_own(name) else name.replace(".", "/")
