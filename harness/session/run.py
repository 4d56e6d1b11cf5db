"""The request for one run of ``pytest --device``, before any model is read."""

from __future__ import annotations

from dataclasses import dataclass

from harness.session.options import RunOptions
from harness.suite.read import load_suite
from harness.suite.suite import Suite


@dataclass(frozen=True)
class Run:
    """Options that fit together, and the suite that they name.

    ``prompt_ids`` are the prompts that were selected; None for all. ``asks_verdict``: whether
    the check of the verdict was selected.
    """

    options: RunOptions
    suite: Suite
    prompt_ids: frozenset[str] | None = None
    asks_verdict: bool = True

    @property
    def wants_matrix(self) -> bool:
        """Whether ``--matrix`` or the suite asks for the runs of the matrix; not of a shard."""
        return self.options.matrix or (self.suite.matrix and self.options.shard is None)

    def chosen(self) -> list[str]:
        """The ids of the prompts of this run, in the order of the suite."""
        chosen = self.prompt_ids
        return [p.id for p in self.suite.prompts if chosen is None or p.id in chosen]

    @property
    def is_part(self) -> bool:
        """Whether only some prompts of the suite were selected."""
        chosen = self.prompt_ids
        return chosen is not None and any(p.id not in chosen for p in self.suite.prompts)

    @property
    def is_selection(self) -> bool:
        """Whether only some of the prompts of this run, which may be of a shard, were selected."""
        shard, chosen = self.options.shard, self.prompt_ids
        if shard is None:
            return self.is_part
        return chosen is not None and chosen != shard.prompts(self.suite)

    def describe(self) -> str:
        """Device, model and suite in one line."""
        spec = self.options.spec
        dtype = f", {spec.dtype}" if spec.dtype else ""
        shard = self.options.shard
        part = f", shard {shard}" if shard else ""
        return f"{spec.device}, {spec.model}, {self.suite.name}{dtype}{part}"

    def smoke_suite(self) -> Suite:
        """The prompts of the smoke test, the same for every suite."""
        return load_suite("smoke", self.options.max_new_tokens)


def read_run(options: RunOptions) -> Run:
    """Check the options and read the suite; does nothing else.

    Raises:
        HarnessError: if the options do not fit together, or the suite is wrong.
    """
    options.check()
    suite = load_suite(options.suite, options.max_new_tokens)
    shard = options.shard
    return Run(options, suite, None if shard is None else shard.prompts(suite))
