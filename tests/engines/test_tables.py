"""Tables: the same rows with and without padding."""

from mobilevlm.engines.tables import aligned_table, markdown_table

HEADER, ROWS = ["stage", "ms", "note"], [["encode", "7.5", ""], ["TTFT", "12.25", "noisy"]]


def test_columns_in_line():
    assert aligned_table(HEADER, ROWS).splitlines() == [
        "| stage  |    ms |  note |",
        "| ------ | ----- | ----- |",
        "| encode |   7.5 |       |",
        "| TTFT   | 12.25 | noisy |",
    ]
    assert aligned_table(HEADER, ROWS, left=2).splitlines()[2] == "| encode | 7.5   |       |"


def test_no_padding():
    assert markdown_table(HEADER, ROWS).splitlines() == [
        "| stage | ms | note |",
        "|---|---|---|",
        "| encode | 7.5 | |",
        "| TTFT | 12.25 | noisy |",
    ]
