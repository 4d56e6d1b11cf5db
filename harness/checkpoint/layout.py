"""The tensors of a checkpoint held against a family's row: what is missing, what is foreign,
and what the dimensions are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field

from harness.checkpoint.family import Family, Group, OneOf

#: None where the shape of a packed weight cannot be told.
Shapes = Mapping[str, tuple[int, ...] | None]

#: Whether a field of config.json is set, by its name.
Has = Callable[[str], bool]

_NUMBERED = re.compile(r"[^\d]*\.\d+\.(.+)")
_EXPERT = re.compile(r"(?<=experts\.)\d+(?=\.)")
#: Layers behind the last one that only predict further tokens.
_PREDICTS = ("eh_proj.", "enorm.", "hnorm.", "shared_head.", "embed_tokens.")
#: Buffers of old releases, which hold nothing that was learned.
_BUFFERS = re.compile(
    r"(.*\.)?(rotary_emb\..*|masked_bias|attn(ention)?\.bias|position_ids|.*num_batches_tracked)"
)


@dataclass(frozen=True)
class Layout:
    """What the tensors are, by a family's row.

    Attributes:
        prefix: before the embeddings and the stack of layers.
        count: how many layers there are, without those that predict further tokens.
        sizes: the value of each letter that the tensors tell.
        flags: for each field that says whether tensors are there, whether they are.
        leading: how many layers in front have the first option where there are options.
        head: the key of the output head, or "".
        problems: what is missing or misshapen.
        foreign: keys within the layers that the family has no place for.
        beside: keys outside of the layers that the row does not name.
        predicting: how many layers predict further tokens.
    """

    prefix: str
    count: int
    sizes: Mapping[str, int]
    flags: Mapping[str, bool]
    leading: int
    head: str
    problems: tuple[str, ...]
    foreign: tuple[str, ...]
    beside: tuple[str, ...]
    predicting: int


@dataclass
class _Found:
    """What is gathered on the way."""

    problems: list[str] = field(default_factory=list)
    flags: dict[str, bool] = field(default_factory=dict)
    leading: int = 0


def lay_out(family: Family, shapes: Shapes) -> Layout | None:
    """Hold tensors against a row; None where no layer of the family is among them."""
    known = family.dimensions()
    prefix = _prefix(family, shapes, known)
    if prefix is None:
        return None
    start = f"{prefix}{family.stack}."
    layers: dict[int, dict[str, tuple[int, ...] | None]] = {}
    for name, shape in shapes.items():
        digits, _, rest = name.removeprefix(start).partition(".")
        if name.startswith(start) and digits.isdecimal() and len(digits) < 6:
            layers.setdefault(int(digits), {})[rest] = shape
    predicting = {n for n, own in layers.items() if any(r.startswith(_PREDICTS) for r in own)}
    main = {n: own for n, own in layers.items() if n not in predicting}
    count = max(main, default=-1) + 1
    found = _Found()
    head = _head(family, prefix, shapes)
    outside = _outside(family, prefix, head)
    found.problems += [f"{name} is missing" for name in outside if name and name not in shapes]
    for number in range(min(count, len(main) + 64)):
        if number not in main:
            found.problems.append(f"layer {number} is missing, layer {count - 1} is there")
    _check_layers(family, start, main, found)
    sizes, misfits = _solve(
        known, start, main, {n: d for n, d in outside.items() if n in shapes}, shapes
    )
    foreign = [
        f"{start}{n}.{rest}"
        for n, own in main.items()
        for rest in own
        if _EXPERT.sub("*", rest) not in known and not _BUFFERS.fullmatch(rest)
    ]
    beside = [n for n in shapes if n not in outside and not _in(n, start) and n != head]
    return Layout(
        prefix,
        count,
        sizes,
        found.flags,
        found.leading,
        head,
        (*found.problems, *misfits),
        tuple(foreign),
        tuple(n for n in beside if not _BUFFERS.fullmatch(n)),
        len(predicting),
    )


def spare_biases(family: Family, shapes: Shapes, packed: Container[str], has: Has) -> set[str]:
    """Biases beside packed weights that the family has no place for.

    Some programs write one, of zeros, beside every weight that they pack; engines skip those
    of which the class has none.

    Args:
        packed: keys of packed weights, without their last part.
        has: whether a field of config.json asks for tensors.
    """
    when = {name: group.when for group in family.groups() for name in group.tensors}
    found = set()
    for name in shapes:
        base, _, end = name.rpartition(".")
        match = _NUMBERED.fullmatch(_EXPERT.sub("*", name))
        if end == "bias" and base in packed and match:
            field = when.get(match[1])
            if field is None or (field not in ("", "?") and not has(field)):
                found.add(name)
    return found


def _in(name: str, start: str) -> bool:
    return name.startswith(start) and name.removeprefix(start).partition(".")[0].isdecimal()


def _prefix(family: Family, shapes: Shapes, known: Mapping[str, str]) -> str | None:
    """What stands before the stack of which most tensors are the family's."""
    pattern = re.compile(rf"((?:[^.]+\.)*?){re.escape(family.stack)}\.\d+\.(.+)")
    votes: Counter[str] = Counter()
    for name in shapes:
        match = pattern.fullmatch(name)
        if match and _EXPERT.sub("*", match[2]) in known:
            # A stack of pictures or sound has the same names in some wrappers.
            votes[match[1]] += 0 if _tower(match[1]) else 1
    whole = {p: n for p, n in votes.items() if n and p + family.embedding in shapes}
    votes = Counter(whole) or votes
    best = votes.most_common(1)
    return best[0][0] if best and best[0][1] else None


def _tower(prefix: str) -> bool:
    return re.search(r"vis(ion|ual)|image|audio|speech|mtp|talker|code2wav", prefix) is not None


def _head(family: Family, prefix: str, shapes: Shapes) -> str:
    """The key of the head: it stands beside the model, or beside what wraps it."""
    parts = prefix.split(".")[:-1]
    places = [".".join([*parts[:n], family.head]) for n in range(len(parts), -1, -1)]
    return next((name for name in places if name in shapes), "")


def _outside(family: Family, prefix: str, head: str) -> dict[str, str]:
    names = {prefix + family.embedding: "vocab,hidden"}
    if family.norm:
        names[prefix + family.norm] = "hidden"
    if head:
        names[head] = "vocab,hidden"
    return {**names, **{prefix + name: dims for name, dims in family.outside.items()}}


def _check_layers(
    family: Family, start: str, layers: Mapping[int, Mapping[str, object]], found: _Found
) -> None:
    own = {n: _experts(names) for n, names in sorted(layers.items())}
    for part in family.layer:
        if isinstance(part, Group):
            _check_group(part, start, own, found)
            continue
        picked = {n: _option(part, names) for n, (names, _) in own.items()}
        dense = [number for number, option in picked.items() if option == 0]
        if part.dense_first and dense == list(range(len(dense))):
            found.leading = len(dense)
        for option, groups in enumerate(part.options):
            chosen = {n: own[n] for n in own if picked[n] == option}
            for group in groups:
                _check_group(group, start, chosen, found)


#: The names of a layer, experts as ``*``; and the numbers of the experts that have each.
_Own = tuple[set[str], Mapping[str, set[int]]]


def _experts(names: Mapping[str, object]) -> _Own:
    numbers: dict[str, set[int]] = {}
    for name in names:
        if match := _EXPERT.search(name):
            numbers.setdefault(_EXPERT.sub("*", name), set()).add(int(match[0]))
    return {_EXPERT.sub("*", name) for name in names}, numbers


def _option(part: OneOf, names: set[str]) -> int:
    """The option of which a layer has the largest share."""

    def share(option: tuple[Group, ...]) -> float:
        asked = [name for group in option if not group.when for name in group.tensors]
        return sum(name in names for name in asked) / len(asked)

    shares = [share(option) for option in part.options]
    return shares.index(max(shares))


def _check_group(group: Group, start: str, own: Mapping[int, _Own], found: _Found) -> None:
    if group.when == "?" or not own:
        return
    asked = set(group.tensors)
    if group.when:
        some = [n for n, (names, _) in own.items() if names & asked]
        found.flags[group.when] = found.flags.get(group.when, False) or bool(some)
        if not some:
            return
    _missing(asked, start, own, found)


def _missing(asked: set[str], start: str, own: Mapping[int, _Own], found: _Found) -> None:
    for number, (names, numbers) in own.items():
        lacking = sorted(asked - names)
        found.problems += [f"{start}{number}.{name} is missing" for name in lacking]
        every = set().union(*numbers.values()) if numbers else set()
        if every:
            every = set(range(min(max(every) + 1, 4096)))
        for name in sorted(asked & numbers.keys()):
            for expert in sorted(every - numbers[name]):
                gone = name.replace("*", str(expert))
                found.problems.append(f"{start}{number}.{gone} is missing")


def _solve(
    known: Mapping[str, str],
    start: str,
    layers: Mapping[int, Mapping[str, tuple[int, ...] | None]],
    outside: Mapping[str, str],
    shapes: Shapes,
) -> tuple[dict[str, int], list[str]]:
    """The value of each letter, by the most tensors, and the tensors that contradict it."""
    held = [(name, dims.split(","), shapes[name]) for name, dims in outside.items()]
    for number, own in sorted(layers.items()):
        for rest, shape in own.items():
            written = known.get(_EXPERT.sub("*", rest))
            if written is not None:
                held.append((f"{start}{number}.{rest}", written.split(","), shape))
    sizes = _values(held)
    problems = []
    for name, dims, shape in held:
        wanted = [_evaluate(parse(text), sizes) for text in dims]
        if shape is not None and (
            len(shape) != len(dims)
            or any(w is not None and w != s for w, s in zip(wanted, shape, strict=True))
        ):
            told = ["any" if w is None else w for w in wanted]
            shown = f"[{', '.join(map(str, told))}]"
            problems.append(f"{name} is {list(shape)}, the other tensors ask for {shown}")
    return sizes, problems


def _values(
    held: list[tuple[str, list[str], tuple[int, ...] | None]],
) -> dict[str, int]:
    seen: dict[str, Counter[int]] = {}
    for _, dims, shape in held:
        if shape is None or len(shape) != len(dims):
            continue
        for text, size in zip(dims, shape, strict=True):
            seen.setdefault(text, Counter())[size] += 1
    sizes: dict[str, int] = {}
    # One unknown letter at a time; plain letters before sums.
    for _ in range(3):
        for text in sorted(seen, key=len):
            terms, constant = parse(text)
            unknown = [letter for letter in terms if letter not in sizes]
            if len(unknown) != 1:
                continue
            size = seen[text].most_common(1)[0][0]
            rest = size - constant - sum(c * sizes[x] for x, c in terms.items() if x in sizes)
            if rest > 0 and rest % terms[unknown[0]] == 0:
                sizes[unknown[0]] = rest // terms[unknown[0]]
    return sizes


def parse(text: str) -> tuple[dict[str, int], int]:
    """A dimension as the multiple of each letter, and a constant; ``*`` as an unknown letter."""
    terms: dict[str, int] = {}
    constant = 0
    for part in text.split("+"):
        if part.isdecimal():
            constant += int(part)
            continue
        if part == "*":
            terms["*"] = terms["?"] = 1  # two unknown letters are never solved
            continue
        times, _, letter = part.rpartition("*")
        terms[letter] = terms.get(letter, 0) + int(times or 1)
    return terms, constant


def _evaluate(parsed: tuple[dict[str, int], int], sizes: Mapping[str, int]) -> int | None:
    terms, constant = parsed
    if any(letter not in sizes for letter in terms):
        return None
    return constant + sum(times * sizes[letter] for letter, times in terms.items())


def shown_names(names: tuple[str, ...], most: int = 3) -> str:
    """A few names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def by_first_part(names: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """How many of the names begin with each first part, as ``visual``."""
    parts: Counter[str] = Counter()
    for name in names:
        first, _, rest = name.partition(".")
        parts[f"{first}.{rest.partition('.')[0]}" if first == "model" else first] += 1
    yield from parts.most_common(4)
