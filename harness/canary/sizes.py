"""How large a canary is, and which distance each of its heads looks back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from harness.canary.scaling import RopeScaling, Scaling
from harness.errors import UsageError

#: What kind of decoder: each is written for the class of that name in Transformers.
CanaryFamily = Literal[
    "llama", "mistral", "qwen2", "qwen3", "mixtral", "deepseek_v2", "gemma", "gemma2", "gemma3"
]
#: Which factors of LongRoPE are in use.
Table = Literal["short", "long"]
#: Under the long table every head reads so many times as far back as under the short one.
STRETCH = 2
#: Positions beyond the original context, at the least: room for requests of the long table.
_BEYOND = 128
#: The longest context that a canary is made for.
MOST_CONTEXT = 131_072
#: A symbol has at most this many bits.
MOST_BITS = 8
#: Heads of different KV heads place their keys this many positions apart.
KEY_STEP = 3
#: The MLP's units are a multiple of this, unless their number is given.
_UNITS = 32
#: Of DeepSeek's latent attention: dimensions of a head without positions, of a value, and of
#: what is cached for all heads together.
NOPE, VALUE, LATENT = 128, 128, 512
#: Experts of a family that has them.
_EXPERTS = 8
#: With so many heads one asks for the next token.
_HEADS_FOR_THE_NEXT = 4
#: Hidden sizes of Gemma: embeddings are multiplied by the root, which must be a power of two, and
#: a norm's weights of 8 roots must be numbers that bfloat16 has.
_GEMMA_HIDDEN = (64, 256, 1024)
#: Of scaled frequencies: the factor, by which the original context is shorter too, and the turns
#: within it at which a frequency is low, and high; Llama 3's own, and YaRN's.
_FACTOR = 8
_TURNS: dict[RopeScaling, tuple[float, float]] = {"llama3": (1.0, 4.0), "yarn": (1.0, 32.0)}
#: What Gemma 2 caps logits at.
_SOFT_CAP = 30.0
#: The base of RoPE in Gemma 3's layers with a window is so many times smaller.
_LOCAL_BASE = 100.0


@dataclass(frozen=True)
class Sizes:
    """The shape of a canary.

    Attributes:
        context: the most positions; half of it is how far the layers look back together.
        page_size: tokens in a block of the engine's KV cache, for the words of a finding.
        intermediate: units of the MLP; 0 takes as many as its bits need.
        sliding_window: how many positions a token sees, itself included; None for all. In
            Gemma every other layer has it, the first one too.
        family: which class of Transformers runs it.
        original_context: with it the canary has LongRoPE: up to so many positions the short
            table of factors is right, beyond them the long one. None for no LongRoPE.
        experts: of each layer, two of which are chosen for a token; 0 for a family without,
            and for the usual eight of one with them.
        rope_scaling: how the frequencies of RoPE are scaled; None for not.
        table: of LongRoPE, for the requests that are judged; the weights are the same.

    Raises:
        UsageError: naming the first size that does not fit, and what does.
    """

    context: int = 2048
    vocab_size: int = 512
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 64
    hidden: int = 256
    intermediate: int = 0
    rope_theta: float = 10_000.0
    page_size: int = 16
    sliding_window: int | None = None
    family: CanaryFamily = "llama"
    original_context: int | None = None
    experts: int = 0
    rope_scaling: RopeScaling | None = None
    table: Table = "short"

    def __post_init__(self) -> None:
        for name in ("context", "layers", "heads", "kv_heads", "head_dim", "hidden", "page_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"canary: {name} must be at least 1, not {getattr(self, name)}")
        if self.family not in get_args(CanaryFamily):
            names = ", ".join(get_args(CanaryFamily))
            raise UsageError(f"canary: family {self.family!r} is not one of {names}")
        if not math.isfinite(self.rope_theta) or self.rope_theta <= 1:
            raise UsageError(f"canary: rope_theta must be above 1, not {self.rope_theta:g}")
        if self.intermediate == 0:
            object.__setattr__(self, "intermediate", -(-self.units // _UNITS) * _UNITS)
        if self.family == "mixtral" and self.experts == 0:
            object.__setattr__(self, "experts", _EXPERTS)
        self._check_family()
        self._check_shapes()
        self._check_distances()

    def _check_family(self) -> None:
        if self.experts and self.family != "mixtral":
            raise UsageError("canary: experts go with --family mixtral")
        if self.experts and (self.experts not in (4, 8, 16) or self.experts > self.width):
            raise UsageError(
                f"canary: experts must be 4, 8 or 16, and no more than the {self.width} bits of an "
                f"MLP, not {self.experts}"
            )
        if self.experts and 2 * (self.experts // 2).bit_length() - 2 > self.bits:
            raise UsageError(
                f"canary: {self.bits} bits of a token choose no {self.experts} experts"
            )
        if self.family == "deepseek_v2" and self.kv_heads != 1:
            raise UsageError(
                "canary: the heads of --family deepseek_v2 share one key: --kv-heads 1"
            )
        if self.family == "deepseek_v2" and self.width + 1 > LATENT:
            raise UsageError(f"canary: the latent of deepseek_v2 holds {LATENT - 1} bits at most")
        if self.original_context is not None and (self.tied or self.family == "deepseek_v2"):
            raise UsageError(f"canary: --family {self.family} goes without LongRoPE")
        if self.rope_scaling not in (None, *get_args(RopeScaling)):
            names = ", ".join(get_args(RopeScaling))
            raise UsageError(f"canary: rope_scaling must be one of {names}")
        others = self.tied or self.family == "deepseek_v2" or self.original_context is not None
        if self.rope_scaling is not None and others:
            raise UsageError(
                "canary: rope_scaling goes without --original-context, and not with --family "
                "deepseek_v2 or Gemma"
            )
        if self.tied and self.hidden not in _GEMMA_HIDDEN:
            names = ", ".join(map(str, _GEMMA_HIDDEN))
            raise UsageError(
                f"canary: --family {self.family} multiplies embeddings by the root of the hidden "
                f"size, which is exact for {names}, not for {self.hidden}; give one as --hidden"
            )

    def _check_shapes(self) -> None:
        if self.heads % self.kv_heads:
            raise UsageError(
                f"canary: {self.heads} heads are not a multiple of {self.kv_heads} KV heads"
            )
        if self.head_dim % 2 or self.head_dim < max(8, self.group + 1):
            raise UsageError(
                f"canary: head_dim must be even and at least {max(8, self.group + 1)}, "
                f"not {self.head_dim}"
            )
        if self.vocab_size < 32 or self.probes > (self.stride - 1) << self.bits:
            raise UsageError(
                f"canary: a vocabulary of {self.vocab_size} has no room for {self.probes} probes; "
                "make it larger, or take fewer layers"
            )
        if self.intermediate < self.units:
            raise UsageError(
                f"canary: intermediate must be at least {self.units}, not {self.intermediate}"
            )
        if self.layers > self.most_layers:
            raise UsageError(
                f"canary: a hidden size of {self.hidden} has room for {self.most_layers} layers of "
                f"{self.heads} heads, not {self.layers}; take a larger --hidden or fewer --layers"
            )

    def _check_distances(self) -> None:
        if not 32 <= self.context <= MOST_CONTEXT:
            raise UsageError(f"canary: context must be from 32 to {MOST_CONTEXT:,}")
        window = self.sliding_window
        if window is not None and self.family not in ("mistral", "gemma2", "gemma3"):
            raise UsageError("canary: a sliding window goes with --family mistral, gemma2, gemma3")
        if window is not None and window < self.heads + 2:
            raise UsageError(f"canary: a sliding window must be at least {self.heads + 2}")
        original = self.original_context
        if original is not None and not 32 <= original <= self.context - _BEYOND:
            raise UsageError(
                f"canary: original_context must be from 32 to {self.context - _BEYOND}, which is "
                f"{_BEYOND} less than the context, not {original}"
            )
        if original is not None and window is not None:
            raise UsageError("canary: original_context goes without a sliding window")
        if min(self._reaches) <= self.heads:
            least = 4 * (self.heads + 1) * self.layers
            raise UsageError(
                f"canary: a context of {original or self.context} is too short for "
                f"{self.layers} layers of {self.heads} heads; take at least {least}"
            )

    @property
    def bits(self) -> int:
        """Bits of a symbol: every other id of the vocabulary, or fewer, is one."""
        return min(MOST_BITS, (self.vocab_size // 2).bit_length() - 1)

    @property
    def width(self) -> int:
        """Bits that the MLP of a layer writes."""
        return max(self.heads, self.bits)

    @property
    def units(self) -> int:
        """Units that the MLP of a layer needs: those of each bit, and one that empties the room."""
        return self.units_of_bit * self.width + 1

    @property
    def units_of_bit(self) -> int:
        """Two for a product; where the head is the embedding, one that takes back what was put
        in where the head reads."""
        return 3 if self.tied else 2

    @property
    def scaling(self) -> Scaling | None:
        """How the frequencies of RoPE are scaled."""
        if self.rope_scaling is None:
            return None
        few, many = _TURNS[self.rope_scaling]
        return Scaling(self.rope_scaling, _FACTOR, self.context // _FACTOR, few, many)

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding."""
        return self.family in ("gemma", "gemma2", "gemma3")

    @property
    def post_normed(self) -> bool:
        """Whether what attention and MLP give is normed too."""
        return self.family in ("gemma2", "gemma3")

    @property
    def soft_cap(self) -> float | None:
        """What logits are capped at: ``cap * tanh(logit / cap)``."""
        return _SOFT_CAP if self.family == "gemma2" else None

    def window_of(self, layer: int) -> int | None:
        """How many positions a token sees in a layer, itself included; None for all."""
        return None if self.tied and layer % 2 else self.sliding_window

    def theta_of(self, layer: int) -> float:
        """The base of RoPE in a layer."""
        local = self.family == "gemma3" and self.window_of(layer) is not None
        return max(self.rope_theta / _LOCAL_BASE, 2.0) if local else self.rope_theta

    @property
    def interleaved(self) -> bool:
        """Whether RoPE pairs neighbouring dimensions, and not the two halves of a head."""
        return self.family == "deepseek_v2"

    @property
    def score_size(self) -> int:
        """Dimensions of a query: attention divides scores by the root of it."""
        return self.head_dim + (NOPE if self.family == "deepseek_v2" else 0)

    def cached(self, workers: int = 1) -> int:
        """Numbers that each of some workers keeps of a token in a layer's cache."""
        if self.family == "deepseek_v2":  # every worker has all of the latent
            return LATENT + self.head_dim
        return 2 * -(-self.kv_heads // workers) * self.head_dim

    @property
    def group(self) -> int:
        """Heads that share a KV head."""
        return self.heads // self.kv_heads

    @property
    def stride(self) -> int:
        """Symbol s has the id ``s * stride``, so that symbols lie in every shard of the head."""
        return self.vocab_size >> self.bits

    @property
    def probes(self) -> int:
        """Ids whose logits read out one value of the residual each."""
        return self.bits + 1 + self.layers * (self.heads + self.width)

    @property
    def most_layers(self) -> int:
        """Layers for which the residual has room."""
        per_layer, rest = self.heads + self.width, self.hidden - self.own_dimensions
        left = self.hidden - self.own_squares
        # Twice the bits of a layer, and a constant of 2 for every four of what is left.
        return max(0, int((rest - left / 4 - 3) / (1.75 * per_layer)))

    @property
    def own_dimensions(self) -> int:
        """Dimensions of the residual for the token's bits: where the head is the embedding there
        is a second copy, which cancels what the head would read of the first one."""
        return 2 * self.bits if self.tied else self.bits

    @property
    def own_squares(self) -> int:
        """What a token's bits add to the squares of a row; a tied head's last bits begin at 1."""
        return 3 * self.bits if self.tied else self.bits

    @property
    def _reaches(self) -> tuple[int, ...]:
        """The largest distance of each layer: the last layer's is half of all."""
        total = (self.original_context or self.context) // 2
        last = total if self.layers == 1 else total // 2
        each = (total - last) // max(1, self.layers - 1)
        reaches = (*[each] * (self.layers - 1), last)
        windows = [self.window_of(layer) or r for layer, r in enumerate(reaches)]
        return tuple(min(r, window) for r, window in zip(reaches, windows, strict=True))

    @cached_property
    def distances(self) -> tuple[tuple[int, ...], ...]:
        """How far back each head of each layer looks, as its query is compiled.

        Two kinds of heads ask for what they must not see, and read what is nearest to it
        (``reads``): a distance that is the sliding window itself lies just outside of it, and
        -1 is the next token. They show a window that is too long, and a causal mask that is
        missing.
        """
        return tuple(self._layer_distances(layer) for layer in range(self.layers))

    @property
    def stretch(self) -> int:
        """How many times as far back as compiled a head looks under the table in use."""
        return STRETCH if self.original_context is not None and self.table == "long" else 1

    @cached_property
    def asked(self) -> tuple[tuple[int, ...], ...]:
        """How far back each head looks under the table in use."""
        return tuple(tuple(d * self.stretch for d in row) for row in self.distances)

    @property
    def reads(self) -> tuple[tuple[int, ...], ...]:
        """How far back each head really reads."""
        windows = [self.window_of(layer) or self.context + 1 for layer in range(self.layers)]
        return tuple(
            tuple(min(max(d, 0), window - 1) for d in row)
            for window, row in zip(windows, self.asked, strict=True)
        )

    @property
    def of_the_other_table(self) -> Sizes | None:
        """The same with the other table of LongRoPE in use; None without LongRoPE."""
        if self.original_context is None:
            return None
        return replace(self, table="short" if self.table == "long" else "long")

    @property
    def history(self) -> int:
        """Positions before a row that the row depends on."""
        return sum(map(max, self.reads))

    def _layer_distances(self, layer: int) -> tuple[int, ...]:
        """Half of them spread evenly, which reaches every block, half by factors."""
        reach, count = self._reaches[layer], self.heads
        if count == 1:
            return (reach,)
        wanted = []
        for k in range(count):
            share = k / (count - 1)
            even = 1 + share * (reach - 1 - layer)
            wanted.append(round(even if k % 2 else reach**share))
        chosen: list[int] = [reach]
        for distance in [1, *wanted[1:-1]]:
            while distance in chosen:
                distance = distance % reach + 1  # noqa: PLW2901 - the next free one
            chosen.append(distance)
        if layer == 0 and count >= _HEADS_FOR_THE_NEXT:
            chosen[chosen.index(1)] = -1
        step = next(s for s in range(round(0.4 * count) + 1, 2 * count) if math.gcd(s, count) == 1)
        return tuple(chosen[(h * step + layer) % count] for h in range(count))


#: A canary for where others wait: a probe of the doctor, a cell of the matrix.
QUICK = Sizes(context=512, layers=2)
