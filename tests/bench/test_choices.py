"""Names of methods, groups and protocols."""

import pytest

from tip_adapter.bench.method_choice import choose_methods, group_of
from tip_adapter.bench.protocols import PUBLISHED_TUNING, choose_protocols, tuning_of
from tip_adapter.errors import InputError
from tip_adapter.methods import METHODS
from tip_adapter.methods.spec import MethodSpec


def names(wanted):
    return [choice.name for choice in choose_methods(wanted)]


def test_groups_divide_all_methods():
    assert names("all") == list(METHODS)
    assert sorted(names("training-free,trained,transductive")) == sorted(METHODS)
    assert not set(names("training-free")) & set(names("trained"))
    assert sorted(names(["default", "on-encoder", "transductive"])) == sorted(METHODS)
    assert {"tip-adapter", "gda", "auto"} <= set(names("training-free"))


def test_groups_follow_what_methods_say():
    for name, cls in METHODS.items():
        trained = cls.trains or cls.needs_encoder or cls.takes_images
        assert (group_of(name) == "training-free") == (not trained and not cls.transductive)
        assert (group_of(name) == "transductive") == cls.transductive


def test_a_method_counts_once():
    assert names("gda, zero-shot,gda,") == ["gda", "zero-shot"]


def test_parameters_are_read_as_numbers_and_words():
    one, other = choose_methods("tip-adapter:alpha=1:beta=5.5:balanced=False,tip-adapter:alpha=auto")
    assert one == MethodSpec("tip-adapter", {"alpha": 1, "beta": 5.5, "balanced": False})
    assert one.label == "tip-adapter:alpha=1:beta=5.5:balanced=false"
    assert other.label == "tip-adapter:alpha=auto"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("tip", r"Unknown method 'tip'.*: choose among default, all, .*tip-adapter"),
        ("", "at least one method"),
        (
            "tip-adapter:gamma=2",
            r"tip-adapter \(alpha=auto, beta=auto, text_weight=auto, balanced=true\), got 'gamma=2'",
        ),
        ("tip-adapter:alpha", "NAME=VALUE"),
        ("gda:random_state=3", "NAME=VALUE"),
        ("gda:alpha=much", "Expected alpha of gda to be a number or 'auto', got 'much'"),
        ("tip-adapter:alpha=NaN", "Expected alpha of tip-adapter to be a number"),
        ("tip-adapter:balanced=maybe", "Expected balanced of tip-adapter to be true or false, got 'maybe'"),
        ("clap:epochs=few", "Expected epochs of clap to be a number"),
    ],
)
def test_unknown_names_list_the_valid_ones(wanted, words):
    with pytest.raises(InputError, match=words):
        choose_methods(wanted)


def test_protocols():
    assert choose_protocols("fair") == ("fair",)
    with pytest.raises(InputError, match="Unknown protocol 'oracle': choose one of fair, paper, paper-few"):
        choose_protocols("oracle")


def test_every_method_states_its_published_tuning():
    assert set(METHODS) <= set(PUBLISHED_TUNING)
    for protocol in ("fair", "as-it-comes", "base-to-new"):
        assert {tuning_of(name, protocol) for name in METHODS} == {"from the support set alone"}
    assert "as published" in tuning_of("tda", "transductive")
