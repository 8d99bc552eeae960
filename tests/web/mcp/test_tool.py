from exporter.web.mcp.tool import columns_of, table


def test_a_table_is_markdown_and_what_is_not_there_is_a_dash() -> None:
    rows: list[dict[str, object]] = [
        {"a": "x|y", "b": None, "c": ["p", "q"]},
        {"a": "two\nlines", "c": {"image": "3"}},
        {"a": "", "b": 0.12345},
    ]
    assert table(["a", "b", "c"], rows) == (
        "| a | b | c |\n| --- | --- | --- |\n| x\\|y | - | p, q |\n| two lines | - | 3 image |\n| - | 0.123 | - |"
    )


def test_columns_are_those_that_a_row_fills() -> None:
    assert columns_of([{"b": "", "a": None}, {"c": 0, "a": "x", "d": []}]) == ["c", "a"]
