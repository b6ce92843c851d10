"""Means and intervals over runs, against SciPy's; pairs of protocols; what tables and figures show."""

import base64

import numpy as np
import pytest
from example_runs import record
from scipy import stats

from tip_adapter.bench.figures import _accuracy_figure, _curves, _gap_figure, _seconds_figure, draw_figures
from tip_adapter.bench.records import Records
from tip_adapter.bench.report import _notes, overviews, reasons
from tip_adapter.bench.summary import gaps, summarise


def row_of(runs):
    (row,) = summarise(runs)
    return row


def test_the_interval_over_seeds_is_students():
    accuracies = [0.70, 0.74, 0.69]
    row = row_of([record(seed=i, accuracy=value, nll=0.5 + i) for i, value in enumerate(accuracies)])
    low, high = stats.t.interval(0.95, 2, np.mean(accuracies), stats.sem(accuracies))
    assert (row.interval, row.n_runs) == ("seeds", 3)
    assert (row.accuracy, row.low, row.high) == pytest.approx((np.mean(accuracies), low, high))
    assert row.nll == 1.5


def test_the_interval_of_a_share_stays_one():
    row = row_of([record(seed=0, accuracy=0.99), record(seed=1, accuracy=0.5)])
    assert (row.low, row.high) == (0.0, 1.0)


@pytest.mark.parametrize("seeds", [1, 3])
def test_without_different_support_sets_the_interval_is_over_test_images(seeds):
    row = row_of([record(seed=seed, fit_seconds=seed) for seed in range(seeds)])
    wilson = stats.binomtest(6, 8).proportion_ci(method="wilson")
    assert (row.interval, row.low, row.high) == ("test images", pytest.approx(wilson.low), pytest.approx(wilson.high))


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_the_interval_has_a_width_where_every_answer_is_right_or_none(accuracy):
    row = row_of([record(seed=i, accuracy=accuracy, nll=0.1 + i) for i in range(3)])
    assert row.interval == "test images"
    assert row.half > 0.1
    assert 0 <= row.low <= accuracy <= row.high <= 1


def test_fewer_support_sets_than_the_fair_protocol_asks_for_are_told():
    def noted(seeds, **changes):
        runs = [record(seed=i, accuracy=0.25 * i, **changes) for i in range(seeds)]
        return _notes(Records((record(method="zero-shot", **changes), *runs), ()))

    assert noted(2) == ["2 support sets per number of shots: the protocol fair asks for at least 3 (--seeds 3)"]
    assert noted(1)[0].startswith("1 support set per number")
    assert noted(3) == []
    # One is all there is.
    assert noted(1, one_support_set=True) == []


def test_costs_are_medians_and_memory_the_largest():
    runs = [record(seed=i, fit_seconds=s, peak_memory_mb=m) for i, (s, m) in enumerate([(1, 5), (9, 7), (2, None)])]
    assert (row_of(runs).fit_seconds, row_of(runs).peak_memory_mb) == (2, 7)


def test_two_states_of_a_data_set_are_never_mixed():
    rows = summarise([record(), record(dataset_id="ffffffff", accuracy=0.1)])
    assert sorted(row.setting.dataset for row in rows) == ["pets #0123abcd", "pets #ffffffff"]


def bits(right):
    return base64.b64encode(np.packbits(np.array(right, dtype=bool)).tobytes()).decode()


def test_gaps_are_paired_by_support_set():
    fair, paper = (0.5, 0.6), (0.6, 0.65)
    runs = [record(seed=i, accuracy=value) for i, value in enumerate(fair)]
    runs += [record(seed=i, accuracy=value, protocol="paper") for i, value in enumerate(paper)]
    runs += [record(seed=7, accuracy=0.1, protocol="paper")]  # without a partner
    (gap,) = gaps(runs)
    low, high = stats.t.interval(0.95, 1, 0.075, stats.sem([0.1, 0.05]))
    assert (gap.n_pairs, gap.interval) == (2, "seeds")
    assert (gap.gap, gap.low, gap.high) == pytest.approx((0.075, low, high))


def test_one_pair_is_compared_photo_by_photo():
    one, other = [1, 1, 1, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 1, 1, 0]
    runs = [
        record(accuracy=np.mean(right), right=bits(right), protocol=protocol)
        for right, protocol in ((one, "paper"), (other, "fair"))
    ]
    (gap,) = gaps(runs)
    half = 1.96 * np.std(np.subtract(one, other)) / np.sqrt(8)
    assert (gap.interval, gap.gap, gap.high) == ("test images", 0.25, pytest.approx(0.25 + half))


@pytest.fixture
def many_runs():
    """Eighteen methods, three numbers of shots, both protocols."""
    names = ["zero-shot", "tip-adapter", "linear-probe", "$dollar_of_a_much_too_long_name$"]
    names += [f"method-{i}" for i in range(14)]
    return [
        record(
            method=name,
            shots=shots,
            seed=seed,
            protocol=protocol,
            accuracy=0.3 + i / 40 + shots / 100 + seed / 200 + (protocol == "paper") / 100,
            fit_seconds=0.01 * (i + 1) ** 2,
        )
        for i, name in enumerate(names)
        for shots in (1, 4, 16)
        for seed in range(2)
        for protocol in ("fair", "paper")
    ]


def test_tables_rank_by_accuracy_at_the_most_shots(many_runs):
    fair, paper = overviews(summarise(many_runs))
    assert (fair.setting.protocol, paper.setting.protocol) == ("fair", "paper")
    assert fair.header[:4] == ["method", "1 shot", "4 shots", "16 shots"]
    assert [cells[0] for cells in fair.cells][:2] == ["method-13", "method-12"]
    assert [cells[0] for cells in fair.cells][-1] == "zero-shot"
    assert fair.cells[0][3].startswith("88.8 ± ")


def test_a_method_without_some_shots_has_a_gap_in_its_line(many_runs):
    runs = [run for run in many_runs if (run["method"], run["shots"]) != ("method-13", 16)]
    cells = {line[0]: line for line in overviews(summarise(runs))[0].cells}
    assert cells["method-13"][3] == "–"


def test_reasons_are_said_once():
    runs = [
        record(status="failed", method=method, shots=shots, seed=seed, reason="it diverged")
        for method in ("clap", "ape")
        for shots in (1, 2)
        for seed in range(3)
    ]
    assert reasons(runs) == ["pets, fair: ape (1, 2 shots), clap (1, 2 shots): it diverged"]


def test_figures_show_every_method(many_runs, tmp_path):
    rows = [row for row in summarise(many_runs) if row.setting.protocol == "fair"]
    titles = [axes.get_title(loc="left") for axes in _accuracy_figure(rows[0].setting, _curves(rows)).axes]
    assert titles[:2] == ["method-13", "method-12"]
    assert len([title for title in titles if title]) == 18
    labels = {text.get_text() for text in _seconds_figure(rows[0].setting, rows).axes[0].texts}
    assert {"zero-shot", "method-3", "$dollar_of_a…_long_name$"} <= labels
    assert len(labels) == 18
    panels = _gap_figure(summarise(many_runs)[0].setting, gaps(many_runs)).axes
    assert [axes.get_title() for axes in panels] == ["1 shot", "4 shots", "16 shots"]
    assert len(panels[0].get_yticklabels()) == 18


@pytest.mark.parametrize("n_methods", [1, 2, 3, 6])
def test_titles_are_whole_however_few_the_methods(many_runs, n_methods):
    rows = [row for row in summarise(many_runs) if row.setting.protocol == "fair"]
    curves = dict(list(_curves(rows).items())[:n_methods])
    for figure in (_accuracy_figure(rows[0].setting, curves), _seconds_figure(rows[0].setting, rows)):
        figure.draw_without_rendering()
        box = figure._suptitle.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert figure._suptitle.get_text().replace("\n", " ").startswith("pets, lite, protocol fair")


def test_figures_are_written_and_the_same_results_give_the_same_file(many_runs, tmp_path):
    runs = [run for run in many_runs if run["method"] in ("zero-shot", "method-3")]
    names = [path.name for path in draw_figures(tmp_path, summarise(runs), gaps(runs))]
    assert names[:2] == ["accuracy-pets-lite-fair.png", "accuracy-pets-lite-fair.svg"]
    assert names[-2:] == ["gap-pets-lite-paper.png", "gap-pets-lite-paper.svg"]
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".png"}
    draw_figures(tmp_path, summarise(runs), gaps(runs))
    assert {path: path.read_bytes() for path in before} == before


def test_figures_of_odd_names(many_runs, tmp_path):
    odd = "pets $x_{$ \x1b[2J\u202e"
    runs = [{**run, "dataset": odd} for run in many_runs if run["method"] in ("zero-shot", "method-3")]
    written = draw_figures(tmp_path, summarise(runs), gaps(runs))
    assert all(path.stat().st_size > 1000 for path in written)
    title = next(path for path in written if path.suffix == ".svg").read_text(encoding="utf-8")
    assert not {"\x1b", "\u202e"} & set(title)
