"""What the faults must know of a model: how many layers and heads, which BOS, which epsilon.

Faults are placed by their depth of thirty layers, those of the default model,
and have the same dials in every model.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.find import find_model
from harness.model.model import read_json
from harness.model.tokenizer import open_tokenizer


@dataclass(frozen=True)
class Anatomy:
    """Sizes of a model.

    Attributes:
        bos: id of the token that begins the prompts named by ``begun``.
        epsilon: of every norm.
        begun: ``chats`` where a chat template puts the BOS first, ``texts``
            where the tokenizer does.
    """

    layers: int = 30
    heads: int = 9
    kv_heads: int = 3
    bos: int = 1
    epsilon: float = 1e-5
    begun: str = "chats"

    def layer(self, of_thirty: int) -> int:
        """The layer at the depth of layer ``of_thirty`` of thirty."""
        return of_thirty * self.layers // 30

    def count(self, of_thirty: int) -> int:
        """As many layers as are that share of thirty, at least one."""
        return max(1, round(of_thirty * self.layers / 30))


#: Of the default model.
SMOLLM2 = Anatomy()


def anatomy_of(name: str) -> Anatomy:
    """Read from the checkpoint of a model."""
    if name == "smollm2":
        return SMOLLM2
    model = find_model(name)
    config = read_json(model, "config.json") or {}
    return Anatomy(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        bos=config["bos_token_id"],
        epsilon=float(f"{config['rms_norm_eps']:.3g}"),
        begun="chats" if open_tokenizer(model).template else "texts",
    )
