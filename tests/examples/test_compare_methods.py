"""The example for papers measures, compares set by set, and writes a table for LaTeX."""


def test_a_table_for_a_paper(example, photos):
    options = ["--ours", "tip-adapter", "--baselines", "zero-shot", "--shots", 1, "--seeds", 2, "--encoder", "fake"]
    out = example("compare_methods.py", photos, "../results", *options)
    assert out.startswith("tip-adapter over zero-shot, 1 shots: ")
    table = (photos.parent / "results" / "table.tex").read_text(encoding="utf-8").splitlines()
    assert [line.partition(" & ")[0] for line in table[1:4]] == ["shots", "tip-adapter", "zero-shot"]
    assert (photos.parent / "results" / "table.csv").is_file()
