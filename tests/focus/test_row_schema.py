from exporter.focus.columns import columns_of
from exporter.focus.csv_parser import Record
from exporter.focus.row_schema import parse_header


def test_a_header_tells_its_version_and_where_each_column_is() -> None:
    names = [column.name for column in columns_of("1.4")] + ["x_Own"]
    header = parse_header(Record(1, [name.encode() for name in names]))
    assert (header.version, header.names) == ("1.4", tuple(names))
    assert header.places["x_Own"] == len(names) - 1


def test_quoted_names_and_blanks_around_them_are_read() -> None:
    assert parse_header(Record(1, [b'"BilledCost"', b" Tags "])).names == ("BilledCost", "Tags")
