"""What commands say: options that exist, methods with their parameters, and the next command on a terminal alone."""

import ast
import inspect
import json
import re
from pathlib import Path

import pytest
import typer

import tip_adapter
from tip_adapter.cli import app
from tip_adapter.methods import METHODS
from tip_adapter.methods.documentation import document
from tip_adapter.methods.spec import parameters_of

SOURCE = Path(tip_adapter.__file__).parent
OTHER_PROGRAMS = {"--directory", "--force-reinstall", "--no-deps"}  # of http.server, of pip


def commands():
    """Every command of the program by its name, such as "class add", with its options."""
    found = {}

    def walk(command, words):
        for name, child in getattr(command, "commands", {}).items():
            walk(child, [*words, name])
        if not hasattr(command, "commands"):
            forms = [form for parameter in command.params for form in (*parameter.opts, *parameter.secondary_opts)]
            options = {form for form in forms if form.startswith("--")}
            found[" ".join(words)] = (command.callback, options | {"--help"})

    walk(typer.main.get_command(app), [])
    return found


def strings_of(path):
    """Strings of a module, without docstrings and comments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) - OTHER_PROGRAMS


def test_every_option_that_is_named_exists():
    known = {option for _, options in commands().values() for option in options} | {"--version"}
    named = {path: option for path in SOURCE.rglob("*.py") for text in strings_of(path) for option in options_in(text)}
    assert named, "messages name options"
    assert {option for option in named.values()} <= known


@pytest.mark.parametrize("module", sorted((SOURCE / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_messages_of_a_command_name_its_own_options(module):
    """A module of commands speaks of the options of these, but in the commands it names as the next ones."""
    of_module = [
        options
        for callback, options in commands().values()
        if Path(inspect.getfile(inspect.unwrap(callback))) == module
    ]
    shared = module.stem in ("options", "output", "app", "photos", "help", "jobs", "streams")
    own = {option for options in of_module for option in options}
    tree = ast.parse(module.read_text(encoding="utf-8"))
    elsewhere = {
        id(node)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "echo_next"
        for node in ast.walk(call)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in elsewhere and not shared:
            assert options_in(node.value) <= own, node.value


def test_next_commands_are_commands_with_such_options():
    known = commands()
    for path in (SOURCE / "cli").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "echo_next":
                words = [getattr(argument, "value", None) for argument in call.args]
                if words[0] != "python":
                    assert words[0] in known
                    assert {word for word in words if str(word).startswith("-")} <= known[words[0]][1]


def test_one_word_for_one_kind_of_option():
    """An option of the same name is about the same thing everywhere, and has the same short form."""
    short = {}
    for command in typer.main.get_command(app).commands.values():
        for each in getattr(command, "commands", {"": command}).values():
            for parameter in each.params:
                long = [option for option in parameter.opts if option.startswith("--")]
                for option in parameter.opts:
                    if not option.startswith("--") and long:
                        short.setdefault(option, set()).add(long[0].rstrip("s"))
    assert all(len(names) == 1 for names in short.values()), short


@pytest.mark.parametrize("name", METHODS)
def test_info_describes_every_method(run, name):
    code, out, err = run("info", name)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: ")
    assert "source: " in out
    assert all(re.search(rf"^{parameter} ", out, re.MULTILINE) for parameter in parameters_of(name))
    assert all(words for _, _, words in document(name).parameters)
    facts = json.loads(run("info", name, "--json")[1])
    assert list(facts["parameters"]) == list(parameters_of(name))


def test_a_saved_classifier_comes_before_a_method_of_its_name(run, model, monkeypatch):
    monkeypatch.chdir(model.parent)
    model.rename("gda")
    assert run("info", "gda")[1].startswith("12 shots of 3 classes")


def test_fit_takes_parameters_as_bench_does(run, fails, photos, tmp_path):
    given = ("fit", photos / "train", "-e", "fake", "-o", tmp_path / "p.tip", "-m")
    assert run(*given, "tip-adapter:alpha=2:beta=5.5")[0] == 0
    facts = json.loads(run("info", tmp_path / "p.tip", "--json")[1])
    assert (facts["method"], facts["chosen"]["alpha"], facts["chosen"]["beta"]) == ("tip-adapter", 2, 5.5)
    (shot,) = [*json.loads(run("shots", tmp_path / "p.tip", "--json")[1])["shots"]][:1]
    assert run("remove", tmp_path / "p.tip", shot["id"])[0] == 0
    assert json.loads(run("info", tmp_path / "p.tip", "--json")[1])["chosen"]["alpha"] == 2
    fails(3, ["alpha=auto, beta=auto", "got 'gamma=2'"], *given, "tip-adapter:gamma=2")
    fails(3, "alpha of tip-adapter to be a number", *given, "tip-adapter:alpha=much")
    fails(3, "Unknown method 'tip'", *given, "tip:alpha=1")


def test_the_next_command_is_named_on_a_terminal_alone(run, model, photos, monkeypatch):
    assert "next: " not in run("predict", model, photos / "test")[1]
    monkeypatch.setattr("tip_adapter.cli.output._is_terminal", lambda: True)
    out = run("predict", model, photos / "test")[1]
    assert out.splitlines()[-1].startswith(f"next: tip-adapter explain {model} ")
    assert "next: " not in run("predict", model, photos / "test", "--json")[1]
