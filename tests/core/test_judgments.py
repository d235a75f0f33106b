"""A set of judged queries keeps its name, however it is read and whatever answers it."""

from jobs.core.judgments import judged_set_digest

QUERIES = [("q1", "red dress"), ("q2", "boots")]


def test_the_digest_is_of_ids_and_texts_in_any_order():
    digest = judged_set_digest(QUERIES)
    assert judged_set_digest(reversed(QUERIES)) == digest
    assert len(digest) == 12
    others = [QUERIES[:1], [("q1", "red dress"), ("q3", "boots")], [("q1", "red dress"), ("q2", "boot")]]
    assert len({digest, *map(judged_set_digest, others)}) == 4
