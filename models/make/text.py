"""How the model reads text: one normal form, words, and the hashed pieces of a word."""

import re
import unicodedata
import zlib
from functools import lru_cache

PADDING_ID = 0
CLS_ID = 1
_RESERVED_IDS = 2

# Scripts written without spaces (Han, Hiragana, Katakana) give a word a character; all else runs of letters and digits.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_TERM = re.compile(rf"[{_UNSPACED}]{{1,2}}|[^\W_{_UNSPACED}]+")


def normalize_text(text: str) -> str:
    """Unicode NFKC, case folded, runs of white space collapsed to one space, ends stripped.

    Full-width letters and digits become plain ones, so `ＲＥＤ　Ｄｒｅｓｓ` equals `red dress`.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def split_words(text: str) -> list[str]:
    """The words of a text after `normalize_text`, in order; punctuation separates and is dropped."""
    return _WORD.findall(normalize_text(text))


@lru_cache(maxsize=1 << 17)
def split_terms(text: str) -> tuple[str, ...]:
    """What a shopper would type one by one: words, and pairs of characters in scripts without spaces."""
    return tuple(_TERM.findall(normalize_text(text)))


@lru_cache(maxsize=1 << 17)
def hashed_word(word: str, *, buckets: int, max_pieces: int) -> tuple[int, ...]:
    """Ids of a word's pieces: the word itself, then its character 3- and 4-grams with `<` and `>` as its ends.

    Args:
        word: one normalised word.
        buckets: size of the id space; ids lie in [2, buckets), since 0 pads and 1 begins a text.
        max_pieces: pieces beyond this many are left out (long words keep the word and their first grams).

    Source: Bojanowski et al., Enriching Word Vectors with Subword Information (2017), with CRC-32 as the hash.
    """
    bounded = f"<{word}>"
    grams = [bounded[i : i + n] for n in (3, 4) for i in range(len(bounded) - n + 1)]
    pieces = [word, *(gram for gram in grams if gram != bounded)]
    return tuple(hash_piece(piece, buckets=buckets) for piece in pieces[:max_pieces])


def hash_piece(piece: str, *, buckets: int) -> int:
    """The id in [2, buckets) of one piece of text; the same on every machine and in every process."""
    return _RESERVED_IDS + zlib.crc32(piece.encode()) % (buckets - _RESERVED_IDS)
