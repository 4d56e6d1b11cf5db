"""One of several parts of a suite, for as many jobs that run beside each other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import UsageError
from harness.suite.suite import Suite

_SHARD = re.compile(r"([0-9]{1,6})/([0-9]{1,6})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """Part ``number`` of ``of``, counted from 1: every ``of``-th prompt of the file.

    Neighbours in a suite are often alike, as long prompts are: so they go to different parts.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def prompts(self, suite: Suite) -> frozenset[str]:
        """The ids of its prompts.

        Raises:
            UsageError: if the suite has too few prompts for so many parts.
        """
        ids = [prompt.id for prompt in suite.prompts]
        if self.of > len(ids):
            raise UsageError(
                f"--shard {self}: suite {suite.name} has {len(ids)} prompts; use at most as "
                "many shards"
            )
        return frozenset(ids[self.number - 1 :: self.of])


def parse_shard(text: str) -> Shard:
    """``3/8`` as a shard.

    Raises:
        UsageError: if it is not written so, or there is no such part.
    """
    found = _SHARD.fullmatch(text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard {text!r}: write it as 3/8, the third of eight parts")
    return Shard(int(found[1]), int(found[2]))
