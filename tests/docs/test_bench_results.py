"""Results of benches and of the nightly run: a part keeps those of the others, and a page says what its file holds."""

from __future__ import annotations

import json
from pathlib import Path

from bench import nightly, suite
from bench.measure import ALWAYS, Figure

MACHINE = {"cores": 2, "cpu": "x", "load": 9.0}
FUZZ = {"outcome": "passed", "date": "2026-01-02", "seconds": 120, "seed": 7, "machine": MACHINE}


def test_a_part_keeps_the_results_of_the_others(tmp_path: Path) -> None:
    file, page = tmp_path / "bench" / "n.json", tmp_path / "page.md"
    page.write_text(f"before\n{nightly.BEGIN}\nold\n{nightly.END}\nafter\n")
    fuzz = {**FUZZ, "times_the_examples": 3, "pytest": "8 passed"}
    nightly.write("fuzz", fuzz, file, page)
    nightly.write("soak", {**FUZZ, "outcome": "failed", "error": "2 workers | died"}, file, page)
    assert json.loads(file.read_text()).keys() == {"fuzz", "soak"}
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| fuzz | passed | 2026-01-02 | 2 | 7 | 3 times the examples of CI: 8 passed; load 9 when it began |" in text
    assert "| soak | **failed** | 2026-01-02 | 2 | 7 | 2 workers / died; load 9 when it began |" in text
    assert "| kills | not run yet |" in text


def test_a_line_has_the_same_keys_whatever_it_says() -> None:
    """And in the table its bench's name goes before its own."""
    line = json.loads(Figure("rows_per_s", 12345.6, "rows/s").json())
    assert line == {
        **dict.fromkeys(ALWAYS),
        "name": "rows_per_s",
        "value": 12346,
        "unit": "rows/s",
        "beside": {},
        "rounds": 1,
    }
    about = {**MACHINE, "quick": True, "date": "2026-01-02", "memory_gb": 4, "python": "3.12"}
    assert "| decode rows_per_s | 12,346 rows/s |  |  |  |" in suite.table(
        {"decode": {"machine": about, "figures": [line]}}
    )


def test_the_page_says_what_the_files_hold() -> None:
    files = [*nightly.results_file(0).parent.glob("nightly-*-cores.json")]
    assert files
    page = nightly.PAGE.read_text()
    assert any(nightly.table(json.loads(file.read_text())) in page for file in files)


def test_the_readme_says_what_the_benches_found() -> None:
    files = [*suite.results_file(0).parent.glob("results-*-cores.json")]
    readme = (suite.ROOT / "README.md").read_text()
    assert any(suite.table(suite.read(file)) in readme for file in files) or (not files and "No full run" in readme)
