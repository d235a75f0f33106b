"""What the learnt vocabulary makes of the texts that shoppers and sellers write."""

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from models.make.configuration_make import preset_config
from models.make.processing_make import MakeProcessor

TEXTS = [
    "red summer dress for women 2kg 5'11\" size 12",
    "blue running shoes 500ml",
    "crème brûlée robe d'été",
    "红色连衣裙 女士 夏季",
    "连衣裙 黑色",
    "rice bag 2kg 10kg",
    "shoes for men 5'11\"",
] * 3
QUERIES_SAMPLED = 4_000


@pytest.fixture(scope="module")
def processor() -> MakeProcessor:
    return MakeProcessor.for_config(preset_config("tiny", text_encoder="bert", vocab_size=400), TEXTS)


def tokens_of(processor: MakeProcessor, text: str) -> str:
    """Without [CLS] and [SEP]."""
    (ids,) = processor.tokenize_queries([text])
    return " ".join(processor.tokenizer.convert_ids_to_tokens(ids[1:-1, 0].tolist()))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("红色连衣裙", "红 色 连 衣 裙"),  # a character each, for want of spaces
        ("红色dress", "红 色 dress"),
        ("Crème BRÛLÉE", "crème brûlée"),
        ("creme", "cr ##e ##me"),  # another word than with its accent, and known all the same
        ("naïve", "n ##a ##ï ##v ##e"),
        ("2kg", "2kg"),
        ("12kg", "12 ##kg"),
        ("5'11\"", "5 ' 11 \""),
        ("500ml", "500ml"),
        ("runing shoos", "ru ##n ##ing sh ##o ##o ##s"),
        ("t-shirt", "t - sh ##i ##r ##t"),
        ("ＲＥＤ Ｄｒｅｓｓ", "red dress"),
        ("dress 🙂", "dress [UNK]"),
        ("dress🙂🙂", "dress [UNK] [UNK]"),  # the word is not lost with what is stuck to it
        ("£5 ½", "£ 5 1 [UNK] 2"),
    ],
)
def test_texts_of_every_kind_become_these_tokens(processor, text, tokens):
    assert tokens_of(processor, text) == tokens


def test_hardly_a_token_of_unseen_queries_is_unknown(fashion):
    log = pq.ParquetFile(fashion / "query_log.parquet")
    column = next(log.iter_batches(50_000, columns=["query"])).column("query")
    queries = [query for query in pc.unique(column).to_pylist() if query][:QUERIES_SAMPLED]
    seen, unseen = queries[::2], queries[1::2]
    config = preset_config("tiny", text_encoder="bert", vocab_size=8_000)
    made = MakeProcessor.for_config(config, seen)
    ids = [int(token) for row in made.tokenize_queries(unseen) for token in row[1:-1, 0]]
    assert len(ids) > len(unseen)
    assert ids.count(made.tokenizer.unk_token_id) / len(ids) <= 0.001
