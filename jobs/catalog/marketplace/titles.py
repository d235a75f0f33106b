"""Titles as sellers write them: some leave to the photo what it shows, some promise what is not there."""

import numpy as np

from jobs.catalog.marketplace.vocabulary import ADJECTIVES, ATTRIBUTES, COLOURS, KINDS, STUFFING

# How often a title leaves an attribute out.  Only what a photo can show is ever left out.
_SILENT = {"kind": 0.12, "colour": 0.40, "pattern": 0.50}
_STUFFED = 0.15
_CHINESE = 0.05
_PLAIN_PATTERN = 0


def write_title(product: dict[str, int], rng: np.random.Generator, *, complete: bool) -> str:
    """A title for a product.

    Args:
        product: Position of each attribute's value in `ATTRIBUTES`.
        rng: The seller's moods.
        complete: Name every attribute; sellers whose photo shows nothing do.
    """
    silent = {name for name, share in _SILENT.items() if rng.random() < share and not complete}
    if product["pattern"] == _PLAIN_PATTERN and rng.random() < 0.7:
        silent.add("pattern")
    named = {name: ATTRIBUTES[name][value] for name, value in product.items() if name not in silent}
    if rng.random() < _CHINESE:
        order = ("brand", "audience", "colour", "pattern", "kind")
        return " ".join(named[name].chinese for name in order if name in named)
    words = [_usual_first(named["brand"].sellers, rng), _usual_first(named["audience"].sellers, rng)]
    if rng.random() < 0.6:
        words.append(str(rng.choice(ADJECTIVES)))
    words += [_usual_first(named[name].sellers, rng) for name in ("colour", "pattern", "kind") if name in named]
    if rng.random() < _STUFFED:
        words += [str(word) for word in rng.choice(STUFFING, size=3, replace=False)]
        words.append(COLOURS[rng.integers(len(COLOURS))].sellers[0])
        words.append(KINDS[rng.integers(len(KINDS))].sellers[0])
    return " ".join(words)


def _usual_first(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[0] if len(words) == 1 or rng.random() < 0.7 else words[rng.integers(1, len(words))]
