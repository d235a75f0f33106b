"""What shoppers want, and the words in which they ask for it."""

from itertools import product

import numpy as np

from jobs.catalog.marketplace.products import Marketplace
from jobs.catalog.marketplace.vocabulary import ATTRIBUTES, COLOURS, KINDS

# Which attributes a query names beside the kind, and how often.
SHAPES: dict[tuple[str, ...], float] = {
    (): 0.10,
    ("colour",): 0.34,
    ("pattern",): 0.12,
    ("audience",): 0.10,
    ("brand",): 0.08,
    ("colour", "pattern"): 0.14,
    ("colour", "audience"): 0.12,
}

# Kinds in a colour that no shopper of the log asks for; the judged queries do.
_JUDGED_SHARE = 0.2
_ZIPF = 1.1

Want = dict[str, int]


def is_judged(market: Marketplace, kind: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Whether a kind in a colour is kept out of the log, for the judged queries."""
    return market.uniform("judged", np.asarray(kind) * len(COLOURS) + np.asarray(colour)) < _JUDGED_SHARE


def draw_want(market: Marketplace, rng: np.random.Generator) -> Want:
    """What one shopper of the log looks for: attribute to position in `ATTRIBUTES`.  Few wants are common."""
    names = ("kind", *list(SHAPES)[rng.choice(len(SHAPES), p=list(SHAPES.values()))])
    while True:
        want = {name: _zipf(market, name, rng) for name in names}
        if "colour" not in want or not is_judged(market, want["kind"], want["colour"])[0]:
            return want


def judged_wants(market: Marketplace) -> list[Want]:
    """Every want whose kind and colour the log never names together, with and without pattern or audience."""
    wants = []
    for kind, colour in product(range(len(KINDS)), range(len(COLOURS))):
        if not is_judged(market, kind, colour)[0]:
            continue
        wants.append({"kind": kind, "colour": colour})
        for name in ("pattern", "audience"):
            wants += [{"kind": kind, "colour": colour, name: value} for value in range(1, len(ATTRIBUTES[name]))]
    return wants


def phrase(want: Want, rng: np.random.Generator) -> str:
    """A want in words, in some order, spelt rightly."""
    words = [_word(name, value, rng) for name, value in want.items()]
    if rng.random() < 0.06:
        chinese = [ATTRIBUTES[name][want[name]].chinese for name in ("audience", "colour", "pattern") if name in want]
        return "".join([*chinese, KINDS[want["kind"]].chinese])
    kind, rest = words[0], words[1:]
    rng.shuffle(rest)
    return " ".join([*rest, kind] if rng.random() < 0.8 else [kind, *rest])


def type_in(query: str, rng: np.random.Generator) -> str:
    """A query as it is typed: most as meant, some with a slip, in capitals, full width or spaced oddly."""
    mood = rng.random()
    if mood < 0.04 and len(query) > 4:
        at = int(rng.integers(1, len(query) - 2))
        slips = (
            query[:at] + query[at + 1 :],
            query[:at] + query[at + 1] + query[at] + query[at + 2 :],
            query[:at] + query[at] + query[at:],
        )
        return slips[rng.integers(3)]
    if mood < 0.09:
        return query.upper() if rng.random() < 0.3 else query.title()
    if mood < 0.12:
        return f"  {query.replace(' ', '  ')} "
    if mood < 0.135:
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in query)
    return query


def _word(name: str, value: int, rng: np.random.Generator) -> str:
    words = ATTRIBUTES[name][value].shoppers
    return words[0] if rng.random() < 0.6 else words[rng.integers(len(words))]


def _zipf(market: Marketplace, name: str, rng: np.random.Generator) -> int:
    """A value of the attribute; which ones are asked for most differs from which ones are sold most."""
    values = np.arange(len(ATTRIBUTES[name]))
    ranks = np.argsort(market.uniform(f"demand {name}", values))
    weights = 1.0 / (values + 2) ** _ZIPF
    if name == "pattern":  # nobody asks for a plain one
        ranks, weights = ranks[ranks != 0], weights[:-1]
    return int(ranks[rng.choice(len(ranks), p=weights / weights.sum())])
