"""What happens to titles, queries and photos before the model: tokens and pixels."""

from __future__ import annotations

import json
import string
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from models.make.backbones import photo_transform, pretrained_tokenizer
from models.make.configuration_make import MakeConfig
from models.make.photo import decode_photo
from models.make.text import CLS_ID, PADDING_ID, hashed_word, normalize_text, split_words

PROCESSOR_FILE = "processor_config.json"
# Characters that are known whatever the training texts hold, so that a new accent does not turn a word into [UNK].
SEED_ALPHABET = string.ascii_lowercase + string.digits + string.punctuation + "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœ€£¥°"
# Photos that a thread decodes in one go: a small one takes no longer than handing it over.
_PHOTOS_A_TASK = 32
SPECIAL_TOKENS = {  # in this order, so that [PAD] is 0 and [CLS] is 1, as for hashed pieces
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}


class MakeProcessor:
    """Turns texts into token ids and photos into pixels, the same way in training and in serving.

    `save_pretrained` and `from_pretrained` follow the Hugging Face conventions (`processor_config.json`, and for "bert"
    `tokenizer.json` and `tokenizer_config.json`).  It is not a `ProcessorMixin`, which insists on a tokenizer with a
    vocabulary: hashed pieces have none.

    Args:
        text_encoder: "subwords" or "bert", as in MakeConfig.
        tokenizer: the WordPiece tokenizer of "bert"; None for "subwords".
        vocab_size: hash buckets of "subwords"; the number of tokens of "bert".
        pieces_per_word: ids a word, "subwords" only; "bert" has one id a token.
        image_size: (height, width) in pixels that every photo is resized to; its aspect is not kept.
        image_mean, image_std: by channel, of pixels scaled to 0..1.
        interpolation: how photos are resized, as Pillow names it.
    """

    def __init__(
        self,
        *,
        text_encoder: str,
        vocab_size: int,
        pieces_per_word: int,
        query_max_tokens: int,
        title_max_tokens: int,
        image_size: tuple[int, int],
        image_mean: Sequence[float] = (0.485, 0.456, 0.406),
        image_std: Sequence[float] = (0.229, 0.224, 0.225),
        interpolation: str = "bilinear",
        tokenizer: PreTrainedTokenizerFast | None = None,
    ) -> None:
        if (text_encoder == "bert") != (tokenizer is not None):
            raise ValueError(f'a tokenizer goes with text_encoder "bert" and with no other, got {text_encoder!r}.')
        self.text_encoder = text_encoder
        self.vocab_size = vocab_size
        self.pieces_per_word = pieces_per_word
        self.query_max_tokens = query_max_tokens
        self.title_max_tokens = title_max_tokens
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.image_mean = [float(value) for value in image_mean]
        self.image_std = [float(value) for value in image_std]
        self.interpolation = interpolation
        self.tokenizer = tokenizer

    @classmethod
    def for_config(
        cls, config: MakeConfig, texts: Iterable[str], *, text: str | None = None, image: str | None = None
    ) -> MakeProcessor:
        """The processor of a new model.

        Args:
            config: the model's configuration; "bert" takes the largest vocabulary from it.
            texts: what "bert" learns its WordPiece vocabulary from; not read by "subwords", nor with `text`.
            text, image: the pretrained backbones that the configuration was made for (`config_of_backbones`), whose
                tokenizer and photo transform are taken.
        """
        tokenizer = None
        if text is not None:
            tokenizer = pretrained_tokenizer(text)
        elif config.text_encoder == "bert":
            tokenizer = train_wordpiece(texts, vocab_size=config.vocab_size)
        return cls(
            text_encoder=config.text_encoder,
            # A pretrained vocabulary may have fewer tokens than its embeddings have rows.
            vocab_size=len(tokenizer) if tokenizer is not None and text is None else config.vocab_size,
            pieces_per_word=config.pieces_per_word if tokenizer is None else 1,
            query_max_tokens=config.query_max_tokens,
            title_max_tokens=config.title_max_tokens,
            image_size=(config.image_height, config.image_width),
            tokenizer=tokenizer,
            **({} if image is None else photo_transform(config)),
        )

    def tokenize_queries(self, queries: Sequence[str]) -> list[np.ndarray]:
        """One int32 array (tokens, pieces) a query, at most `query_max_tokens` long, [CLS] first."""
        return self._tokenize(queries, self.query_max_tokens)

    def tokenize_titles(self, titles: Sequence[str]) -> list[np.ndarray]:
        """One int32 array (tokens, pieces) a title, at most `title_max_tokens` long, [CLS] first."""
        return self._tokenize(titles, self.title_max_tokens)

    def _tokenize(self, texts: Sequence[str], max_tokens: int) -> list[np.ndarray]:
        if self.tokenizer is None:
            return [self._hash_words(text, max_tokens) for text in texts]
        normalized = [normalize_text(text) for text in texts]
        if not normalized:
            return []
        ids = self.tokenizer(normalized, truncation=True, max_length=max_tokens)["input_ids"]
        return [np.asarray(row, dtype=np.int32)[:, None] for row in ids]

    def _hash_words(self, text: str, max_tokens: int) -> np.ndarray:
        words = split_words(text)[: max_tokens - 1]
        sizes = {"buckets": self.vocab_size, "pieces": self.pieces_per_word}
        rows = [_begin_row(self.pieces_per_word)]
        rows += [_word_row(word, **sizes) for word in words]
        return np.frombuffer(b"".join(rows), dtype=np.int32).reshape(-1, self.pieces_per_word)

    @property
    def padding_id(self) -> int:
        """The id that fills texts up to one length."""
        return PADDING_ID if self.tokenizer is None else self.tokenizer.pad_token_id

    def pad(self, tokens: Sequence[np.ndarray]) -> torch.Tensor:
        """Texts of unequal length as one int64 tensor (texts, longest, pieces), padded with `padding_id`."""
        longest = max(len(row) for row in tokens)
        padded = np.full((len(tokens), longest, tokens[0].shape[1]), self.padding_id, dtype=np.int64)
        for row, ids in enumerate(tokens):
            padded[row, : len(ids)] = ids
        return torch.from_numpy(padded)

    @property
    def special_ids(self) -> list[int]:
        """Ids that stand for no word: padding, the beginning of a text, and what else a tokenizer has."""
        return [PADDING_ID, CLS_ID] if self.tokenizer is None else self.tokenizer.all_special_ids

    def is_word(self, ids: torch.Tensor) -> torch.Tensor:
        """(texts, tokens, pieces) -> (texts, tokens) bool: neither padding nor a special token."""
        return ~torch.isin(ids[..., 0], torch.tensor(self.special_ids))

    def decode_photos(self, photos: Sequence[bytes | None], pool: ThreadPoolExecutor) -> list[np.ndarray | None]:
        """Photos as uint8 (height, width, 3) arrays, in order; None where there is no photo or it cannot be read."""
        parts = [photos[start : start + _PHOTOS_A_TASK] for start in range(0, len(photos), _PHOTOS_A_TASK)]
        return list(chain.from_iterable(pool.map(self._decode_part, parts)))

    def _decode_part(self, photos: Sequence[bytes | None]) -> list[np.ndarray | None]:
        return [decode_photo(photo, size=self.image_size, interpolation=self.interpolation) for photo in photos]

    def normalize_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (photos, height, width, 3) to what the image encoder reads: float32 (photos, 3, height, width)."""
        scale = torch.tensor(self.image_std, device=pixels.device) * 255.0
        shift = torch.tensor(self.image_mean, device=pixels.device) * 255.0
        return ((pixels.float() - shift) / scale).permute(0, 3, 1, 2)

    def to_dict(self) -> dict[str, Any]:
        """All settings that change what the model reads, JSON-serialisable; the tokenizer has files of its own."""
        settings = {name: value for name, value in vars(self).items() if name != "tokenizer"}
        return {"processor_class": type(self).__name__, **settings, "image_size": list(self.image_size)}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `processor_config.json` and, where there is a tokenizer, its files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PROCESSOR_FILE).write_text(json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n", "utf-8")
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)

    def to_files(self) -> dict[str, str]:
        """What `save_pretrained` writes, as file name to text: a form that crosses processes."""
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return {path.name: path.read_text("utf-8") for path in sorted(Path(folder).iterdir())}

    @classmethod
    def from_files(cls, files: Mapping[str, str]) -> MakeProcessor:
        """The processor that `to_files` described."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / name).write_text(text, "utf-8")
            return cls.from_pretrained(folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> MakeProcessor:
        """Read what `save_pretrained` wrote.

        Raises:
            FileNotFoundError: the folder holds no `processor_config.json`.
        """
        settings = json.loads((Path(folder) / PROCESSOR_FILE).read_text("utf-8"))
        settings.pop("processor_class")
        tokenizer = None
        if settings["text_encoder"] == "bert":
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        return cls(tokenizer=tokenizer, **settings)


def _begin_row(pieces: int) -> bytes:
    return np.array([CLS_ID] + [PADDING_ID] * (pieces - 1), dtype=np.int32).tobytes()


@lru_cache(maxsize=1 << 17)
def _word_row(word: str, *, buckets: int, pieces: int) -> bytes:
    """The int32 ids of one word of a text: its own, then those of its character grams."""
    ids = hashed_word(word, buckets=buckets, max_pieces=pieces)
    row = np.full(pieces, PADDING_ID, dtype=np.int32)
    row[: len(ids)] = ids
    return row.tobytes()


def train_wordpiece(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over normalised texts whose alphabet is seeded, with BERT's special tokens."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=True)
    # BERT's own rule isolates punctuation, yet leaves an emoji in its word, all of which would be unknown then.
    symbol = Regex(r"[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(symbol, behavior="isolated")]
    )
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=list(SEED_ALPHABET),
        min_frequency=2,
        show_progress=False,
    )
    # The seed as one word adds each character's continuation (##a) too; coming once, it is merged into no longer piece.
    seed_word = "".join(char for char in SEED_ALPHABET if char.isalnum()) * 2
    tokenizer.train_from_iterator(chain([seed_word], (normalize_text(text) for text in texts)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)
