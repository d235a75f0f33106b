"""A query as a hurried shopper types it: with one slip of the fingers."""

from __future__ import annotations

import re
from random import Random

# Shorter words become other words by a slip.
_FEWEST_LETTERS = 4
_WORD = re.compile(rf"[^\W\d_]{{{_FEWEST_LETTERS},}}")


def with_typo(query: str, random: Random) -> str | None:
    """The query with two neighbouring letters swapped, one letter dropped or one doubled, in one of its words.

    The word's first letter stays, as it mostly does when people mistype.

    Args:
        random: draws the word and the slip.

    Returns:
        None for a query without a word of four letters or more.
    """
    words = list(_WORD.finditer(query))
    if not words:
        return None
    word = random.choice(words)
    of_kind = random.choice([slips for slips in slips_of(word[0]) if slips])
    return query[: word.start()] + random.choice(of_kind) + query[word.end() :]


def slips_of(word: str) -> tuple[list[str], list[str], list[str]]:
    """All words that swapping two neighbouring letters, dropping one and doubling one make of a word."""
    inner = range(1, len(word))
    swapped = [word[:n] + word[n + 1] + word[n] + word[n + 2 :] for n in inner[:-1] if word[n] != word[n + 1]]
    dropped = [word[:n] + word[n + 1 :] for n in inner]
    doubled = [word[:n] + word[n] + word[n:] for n in inner]
    return swapped, dropped, doubled
