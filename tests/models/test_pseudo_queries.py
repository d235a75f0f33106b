from models.training.pseudo_queries import MAX_TERMS, pseudo_query


def draws(title: str) -> list[str]:
    return [pseudo_query(title, seed=seed, item_key=-7) for seed in range(200)]


def test_terms_are_the_titles_own_in_its_order():
    title = "Roadster Men's Navy-Blue Check Shirt 42"
    order = ["roadster", "men", "s", "navy", "blue", "check", "shirt", "42"]
    for query in draws(title):
        places = [order.index(term) for term in query.split()]
        assert places == sorted(set(places))
        assert 1 <= len(places) <= MAX_TERMS
    assert {len(query.split()) for query in draws(title)} == {1, 2, 3, 4}


def test_a_script_without_spaces_is_drawn_in_pairs_of_characters():
    assert set(" ".join(draws("红色连衣裙 XL")).split()) == {"红色", "连衣", "裙", "xl"}


def test_the_draw_depends_on_seed_and_product_and_on_nothing_else():
    assert draws("a b c d e f") == draws("a b c d e f")
    assert len({pseudo_query("a b c d e f", seed=1, item_key=key) for key in range(50)}) > 10


def test_a_title_without_a_word_gives_an_empty_query():
    assert pseudo_query("!!! ---", seed=0, item_key=1) == ""
