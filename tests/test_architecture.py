"""The import arrows point one way, and the house rules that a syntax tree can show."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pynn

ROOT = Path(pynn.__file__).parent
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("sizes", "types"),
    ("graph",),
    ("ops",),
    ("builder", "cache", "converter", "native"),
    ("backends",),
    ("aio", "dlpack", "limits", "options", "storage"),
    ("compilation", "compiled", "context", "dispatch", "explain", "ml", "tensor"),
    ("benchmark", "comparison", "quantization"),
    ("", "cli", "__main__"),
    ("compat",),
)
"""By first part of a module's name inside pynn; "" is ``pynn`` itself. Arrows stay or go up this list."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

SIBLINGS_APART = {
    ("builder", "cache"), ("builder", "converter"), ("builder", "native"), ("cache", "converter"), ("cache", "native"),
    ("converter", "native"),
}  # fmt: skip
"""Neighbours in a layer that do not know each other."""

FOREIGN = {
    "cffi": ("native/",),
    "_cffi_backend": ("native/",),
    "onnx": (
        "converter/serialize.py",
        "converter/import_model.py",
        "converter/passes/",
        "cli/convert.py",
        "cli/inspect.py",
    ),
    "onnxruntime": ("backends/ort.py", "benchmark/peers_ort.py"),  # a peer is timed past pynn's back end
    "cuda": ("backends/cuda.py",),
    "rich": ("cli/",),
    "matplotlib": ("benchmark/plot.py",),
    "torch": ("benchmark/peers_torch.py",),
    "asyncio": ("aio.py",),
    "filelock": ("cache/",),
    "platformdirs": ("cache/",),
    "argparse": ("cli/",),
}
"""Who may import what, while the program runs (for types alone, everybody may)."""

DEPENDENCIES = {
    "cffi", "cuda_python", "filelock", "matplotlib", "ml_dtypes", "numpy", "onnx", "onnxruntime", "platformdirs",
    "rich", "tensorrt", "tensorrt_rtx", "typing_extensions",
}  # fmt: skip


def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, but not what stands under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield child
            yield from runtime_nodes(child)


def imports(path: Path, *, types_too: bool = False) -> Iterator[tuple[int, str]]:
    """(line, absolute module) of each import; ``from . import x`` counts as the module ``x``."""
    tree = parse(path)
    package = ["pynn", *path.parent.parts]
    for node in ast.walk(tree) if types_too else runtime_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                yield node.lineno, node.module or ""
                continue
            base = package[: len(package) - node.level + 1]
            if node.module:
                yield node.lineno, ".".join([*base, node.module])
            else:
                yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def room(module: str) -> str:
    """The first part of a module's name inside pynn."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else ""


def room_of(path: Path) -> str:
    name = path.parts[0].removesuffix(".py")
    return "" if name == "__init__" else name


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_module_has_a_place(path: Path) -> None:
    assert room_of(path) in LEVEL, "add it to LAYERS"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_arrow_points_backwards(path: Path) -> None:
    here = room_of(path)
    for line, module in imports(path):
        if module.split(".")[0] != "pynn":
            continue
        there = room(module)
        if path.parts[0] != "cli" or there:
            assert LEVEL[there] <= LEVEL[here], f"{path}:{line} imports {module}"
        pair = (min(here, there), max(here, there))
        assert pair not in SIBLINGS_APART, f"{path}:{line} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_native_is_known_to_backends_only(path: Path) -> None:
    if room_of(path) in ("native", "backends"):
        return
    for line, module in imports(path, types_too=True):
        assert room(module) != "native", f"{path}:{line} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_dependency_has_its_place(path: Path) -> None:
    for line, module in imports(path):
        allowed = FOREIGN.get(module.split(".")[0])
        assert allowed is None or path.as_posix().startswith(allowed), f"{path}:{line} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_module_is_named_like_a_dependency(path: Path) -> None:
    names = {part.removesuffix(".py") for part in path.parts}
    assert not names & DEPENDENCIES


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_print_no_del_method_no_signal_handler(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path}:{node.lineno} prints"
        if isinstance(node, ast.FunctionDef):
            assert node.name != "__del__", f"{path}:{node.lineno}: use weakref.finalize"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert "signal" not in names, f"{path}:{node.lineno} imports signal"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_are_short(path: Path) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) < 500


def test_public_functions_and_classes_have_docstrings_where_the_user_lands() -> None:
    assert [name for name in pynn.__all__ if not getattr(pynn, name).__doc__] == []


def test_no_camel_case_method() -> None:
    from pynn import MLContext, MLGraph, MLGraphBuilder, MLTensor

    for kind in (MLContext, MLGraph, MLGraphBuilder, MLTensor):
        for name in vars(kind):
            assert not re.search(r"[a-z][A-Z]", name), f"{kind.__name__}.{name}"
