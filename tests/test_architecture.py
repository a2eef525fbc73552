"""The house: imports point down only, and what must not be anywhere is nowhere."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("custom_layers", "app", "tuning", "tests", "benchmarks")
# What each package may import of ours. `app.cli` alone may import all but tests and benchmarks.
MAY = {
    "custom_layers": {"custom_layers"},
    "app": {"app", "custom_layers"},
    "tuning": {"tuning", "app", "custom_layers"},
    "benchmarks": {"benchmarks", "tuning", "app", "custom_layers"},
    "tests": {"tests", "benchmarks", "tuning", "app", "custom_layers"},
}
# The checker compares with automatic differentiation: it is no backward pass.
CHECKER = ("gradient_", "finite_differences")


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


def module(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


ALL = {module(path): ast.parse(path.read_text()) for package in OURS for path in sources(package)}


def imports(name):
    """What a module imports, anywhere in it; `from a import b` may mean the module a.b."""
    for node in ast.walk(ALL[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached(name):
    """All of our modules that are loaded with a module."""
    found, left = set(), [name]
    while left:
        for imported in imports(left.pop()):
            if imported in ALL and imported not in found:
                found.add(imported)
                left.append(imported)
    return found


def test_the_walk_sees_imports_inside_functions():
    assert {"tuning.commands", "app.commands"} <= set(imports("app.cli"))
    assert "app.data" in reached("app.cli") and len(ALL) > 50


@pytest.mark.parametrize("name", ALL)
def test_imports_point_down(name):
    package = name.split(".")[0]
    allowed = MAY[package] | ({"tuning"} if name == "app.cli" else set())
    up = {i for i in imports(name) if i.split(".")[0] in OURS and i.split(".")[0] not in allowed}
    assert not up, f"{name} imports {up}"


def test_only_the_command_line_s_users_import_it():
    users = {name for name in ALL if "app.cli" in imports(name)}
    assert {name.split(".")[0] for name in users} <= {"tests", "benchmarks"}


@pytest.mark.parametrize("name", ["app.serving", "app.server.command"])
def test_serving_needs_no_layer_and_no_model(name):
    loaded = reached(name) | {name}
    assert not [n for n in loaded if n.startswith(("custom_layers", "app.models"))]
    assert not [i for n in loaded for i in imports(n) if i.split(".")[0] == "keras"]


def names(tree):
    """The names and attributes that a module uses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


@pytest.mark.parametrize("name", [n for n in ALL if n.split(".")[0] in MAY and n[:5] != "tests"])
def test_no_step_falls_back_to_python(name):
    assert not {"py_function", "numpy_function", "py_func"} & set(names(ALL[name]))


@pytest.mark.parametrize("name", [
    n for n in ALL
    if n.startswith("custom_layers.") and not n.split(".")[1].startswith(CHECKER)
    or n == "custom_layers.gradient"
])
def test_no_backward_pass_is_derived_automatically(name):
    forbidden = {"GradientTape", "gradients", "jacobian", "batch_jacobian", "vjp"}
    used = {n for n in names(ALL[name]) if n in forbidden}
    # A backward pass's own results may be called gradients; TensorFlow's function may not be used.
    calls = {node.func.attr for node in ast.walk(ALL[name])
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    assert not used - {"gradients"} and "gradients" not in calls


def test_custom_gradient_is_called_in_one_place():
    users = {name for name in ALL if name.split(".")[0] not in ("tests", "benchmarks")
             and "custom_gradient" in names(ALL[name])}
    assert users == {"custom_layers.gradient"}
