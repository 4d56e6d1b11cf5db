"""What the routers of a mixture of experts chose, inside vLLM's worker.

vLLM's routers call a function with the experts that they chose (``set_capture_fn``); its own
``enable_return_routed_experts`` uses the same, but in a runner that has no processors of
logits. Nothing here imports vLLM or torch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.statistics.routes import set_hashes


class WatchedRouters:
    """The routers of a worker's model, and the tokens that each routed last."""

    def __init__(self) -> None:
        self._last: dict[int, Any] = {}
        self.layers = 0

    def install(self, model: Any) -> int:
        """Watch every router; returns how many there are, 0 where the release cannot tell.

        Args:
            model: of vLLM, run without graphs: those do not call back.
        """
        found: list[Any] = [getattr(module, "router", None) for module in model.modules()]
        routers = [router for router in found if hasattr(router, "set_capture_fn")]
        for number, router in enumerate(routers):
            router.set_capture_fn(partial(self._keep, number))
        self.layers = len(routers)
        return self.layers

    def take(self) -> NDArray[np.uint16] | None:
        """A hash of the experts of each token of the last step, uint16 (tokens, layers); None
        where not every router was run on all of them."""
        last, self._last = self._last, {}
        if not self.layers or len(last) != self.layers:
            return None
        routes = [set_hashes(last[n].cpu().numpy()) for n in range(self.layers)]
        return np.stack(routes, 1) if len({len(tokens) for tokens in routes}) == 1 else None

    def _keep(self, number: int, experts: Any) -> None:
        """Called by a router with shape (tokens, k); a batch of one request has its last token
        last."""
        if len(experts):
            self._last[number] = experts.detach().clone()


#: Of this process: its model's facts and its processor of logits come to it by separate ways.
WATCHED = WatchedRouters()
