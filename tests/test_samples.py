from hypothesis import given
from hypothesis import strategies as st

from exporter.samples import PAGE_SIZE, PagedTable, Pages, Sample, paged


def sample(key: int, value: int = 0) -> Sample:
    return Sample((str(key),), value)


def listed(pages: Pages) -> list[Sample]:
    return [item for page in pages for item in page.samples]


@given(st.integers(0, 3 * PAGE_SIZE))
def test_samples_are_laid_out_in_order_on_full_pages(count: int) -> None:
    samples = [sample(key) for key in range(count)]
    pages = paged(samples)
    assert listed(pages) == samples
    assert all(len(page.samples) == PAGE_SIZE for page in pages[:-1])
    assert all(page.samples for page in pages)


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 3)), max_size=80), st.integers(0, 600))
def test_a_table_shows_what_was_put_last_and_keeps_every_page_on_which_nothing_changed(
    puts: list[tuple[int, int]], known: int
) -> None:
    table: PagedTable[int] = PagedTable()
    state = {key: sample(key) for key in range(known)}
    table.replace_all(state)
    before = table.pages()
    for key, value in puts:
        table.put(key, sample(key, value))
        state[key] = sample(key, value)
    after = table.pages()
    assert listed(after) == list(state.values())
    assert len(table) == len(state)
    assert all(key in table for key in state)
    places = {key: place for place, key in enumerate(state)}
    touched = {places[key] // PAGE_SIZE for key, _ in puts}
    for number, (old, new) in enumerate(zip(before, after, strict=False)):
        assert old is new or number in touched


@given(st.lists(st.integers(0, 600), max_size=20), st.integers(0, 600))
def test_what_is_removed_is_gone_and_pages_before_it_are_kept(removed: list[int], known: int) -> None:
    table: PagedTable[int] = PagedTable()
    state = {key: sample(key) for key in range(known)}
    table.replace_all(state)
    before = table.pages()
    for key in removed:
        table.remove(key)
        state.pop(key, None)
    after = table.pages()
    assert listed(after) == list(state.values())
    assert [table.get(key) for key in state] == list(state.values())
    assert all(table.get(key) is None for key in removed)
    first = min((key for key in removed if key < known), default=known) // PAGE_SIZE
    assert after[:first] == before[:first]
    assert all(page.samples for page in after)


def test_putting_the_same_again_makes_no_new_page() -> None:
    table: PagedTable[int] = PagedTable()
    table.put(1, sample(1, 5))
    before = table.pages()
    table.put(1, sample(1, 5))
    table.replace_all({1: sample(1, 5)})
    assert table.pages() == before


def test_replacing_all_by_other_keys_forgets_the_rest() -> None:
    table: PagedTable[int] = PagedTable()
    table.replace_all({key: sample(key) for key in range(2 * PAGE_SIZE)})
    table.pages()
    table.replace_all({7: sample(7, 1)})
    assert listed(table.pages()) == [sample(7, 1)]
    table.replace_all({})
    assert table.pages() == ()


def test_pages_that_were_handed_out_do_not_change() -> None:
    table: PagedTable[int] = PagedTable()
    table.put(1, sample(1, 1))
    before = table.pages()
    table.put(1, sample(1, 2))
    assert listed(before) == [sample(1, 1)]
    assert listed(table.pages()) == [sample(1, 2)]
