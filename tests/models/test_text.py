from hypothesis import given
from hypothesis import strategies as st

from models.make.text import hash_piece, hashed_word, normalize_text, split_words


def test_width_case_and_space_do_not_distinguish_texts():
    assert normalize_text("  ＲＥＤ　Ｄｒｅｓｓ\t\n") == normalize_text("red dress") == "red dress"


@given(st.text())
def test_normal_form_of_a_normal_form_is_itself_but_for_rare_compositions(text):
    once = normalize_text(text)
    assert normalize_text(normalize_text(once)) == normalize_text(once)


def test_words_of_spaced_scripts_are_runs_and_of_unspaced_scripts_characters():
    assert split_words("T-Shirt für 2 Levi's") == ["t", "shirt", "für", "2", "levi", "s"]
    assert split_words("红色连衣裙 nike") == ["红", "色", "连", "衣", "裙", "nike"]


@given(st.text(min_size=1, max_size=40))
def test_piece_ids_avoid_the_reserved_ones_and_stay_in_the_table(word):
    ids = hashed_word(word, buckets=1024, max_pieces=23)
    assert 1 <= len(ids) <= 23
    assert all(2 <= piece < 1024 for piece in ids)


def test_piece_ids_are_the_same_in_every_process():
    assert hash_piece("dress", buckets=32768) == 28831


def test_a_typo_keeps_most_pieces_of_the_word():
    right, wrong = (set(hashed_word(word, buckets=1 << 20, max_pieces=23)) for word in ("slippers", "slipperz"))
    assert len(right & wrong) / len(right) > 0.6
