"""Medians, ranges, and tables in their places."""

from bench.calibration import Calibration
from bench.report import HEAD, Reading, Run, markdown, number, percentile, spread, table, write_section


def test_a_row_a_figure_with_its_median_its_range_and_the_machine_beside_it():
    runs = [
        Run([Reading("a", "tasks/s", rate), Reading("b", "ms", 0.25)], Calibration(pings, 20.0))
        for rate, pings in ((1000.0, 50_000.0), (3000.0, 40_000.0), (2000.0, 45_000.0))
    ]
    assert table(runs) == [
        HEAD,
        ("a", "tasks/s", "2,000", "1,000 - 3,000", "40,000 - 50,000", "20.0"),
        ("b", "ms", "0.25", "0.25", "40,000 - 50,000", "20.0"),
    ]


def test_markdown_columns_are_as_wide_as_what_is_in_them():
    assert markdown([("a", "bc"), ("def", "g")]) == ["| a   | bc |", "|-----|----|", "| def | g  |"]


def test_numbers_have_the_digits_that_say_something():
    assert [number(value) for value in (12345.6, 99.96, 10.0, 0.5, float("nan"))] == [
        *("12,346", "100.0", "10.0", "0.50", "-"),
    ]
    assert spread([2.0, 2.0]) == "2.00"


def test_percentiles_are_values_that_were_read():
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (1, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 99) == 7.0


def test_a_section_replaces_what_was_in_its_place_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- bench:a -->\nold\n<!-- end -->\n<!-- bench:b -->\nkept\n<!-- end -->\n")
    write_section(page, "bench:a", ["new", r"with \1"])
    write_section(page, "bench:c", ["added"])
    assert page.read_text() == (
        "# Page\n<!-- bench:a -->\nnew\nwith \\1\n<!-- end -->\n<!-- bench:b -->\nkept\n<!-- end -->\n"
        "\n<!-- bench:c -->\nadded\n<!-- end -->\n"
    )
