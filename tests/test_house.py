"""The house itself: no import circles, nothing of the app in the core, and a map in the README that is right."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = sorted(p for p in (ROOT / "roadtrip").rglob("*.py"))


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(file: Path) -> set[str]:
    """The project's own modules that a file imports, anywhere in it: in functions and for type checkers too."""
    here, known, found = name_of(file).split("."), {name_of(f) for f in CORE}, set()
    package = here if file.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            # `from .study import arms` names a module, `from .study import ARMS` something in one
            found |= {f"{module}.{a.name}" if f"{module}.{a.name}" in known else module for a in node.names}
    return found & known - {name_of(file)}


def test_no_module_imports_itself_by_way_of_others():
    graph = {name_of(file): imports(file) for file in CORE if file.name != "__init__.py"}
    for package in (f for f in CORE if f.name == "__init__.py" and f.parent.name == "study"):
        graph[name_of(package)] = imports(package)
    seen: dict[str, str] = {}

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module in seen:
            return
        for other in sorted(graph.get(module, ())):
            walk(other, (*path, module))
        seen[module] = "done"

    for module in graph:
        walk(module, ())


def test_the_core_does_not_know_the_app():
    for file in CORE:
        if "ui" in file.parts or name_of(file) == "roadtrip":
            continue
        names = {n for n in imports(file) if n.startswith("roadtrip.ui")}
        words = re.findall(r"^\s*(?:import|from) (gradio|plotly)\b", file.read_text(), re.M)
        assert not names and not words, file


def test_the_readme_has_a_line_for_every_file():
    readme = (ROOT / "README.md").read_text()
    tree = readme[readme.index("## In this repository") :]
    listed = set(re.findall(r"([\w]+\.(?:py|js|css))\b", tree[: tree.index("| to add a")]))
    there = {f.name for f in (ROOT / "roadtrip").rglob("*") if f.suffix in (".py", ".js", ".css")} - {"__init__.py"}
    there |= {f.name for f in (ROOT / "scripts").glob("*.py")} - {"__init__.py"}
    there |= {"app.py", "__init__.py"}
    assert there <= listed, f"not in the README: {sorted(there - listed)}"
    assert listed <= there, f"not in the tree: {sorted(listed - there)}"


def drawn() -> tuple[dict[str, str], set[tuple[str, str]]]:
    """(group of each module, arrows) of the diagram in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    groups = {
        f"roadtrip.{m}": g for g, ms in re.findall(r'^  (\w+)\["<b>.*</b><br>(.*)"\]$', text, re.M) for m in ms.split()
    }
    return groups, set(re.findall(r"^  (\w+) --> (\w+)$", text, re.M))


def test_the_diagram_is_what_is_imported():
    groups, arrows = drawn()
    modules = {name_of(f): imports(f) for f in CORE if name_of(f) != "roadtrip"}
    group_of = {m: groups.get("roadtrip.ui" if m.startswith("roadtrip.ui") else m) for m in modules}
    assert None not in group_of.values(), [m for m, g in group_of.items() if g is None]
    assert groups.keys() <= modules.keys()
    real = {(group_of[m], group_of[o]) for m, others in modules.items() for o in others if o in group_of}
    real = {(a, b) for a, b in real if a != b}
    reached = set(real)
    while more := {(a, d) for a, b in reached for c, d in reached if b == c} - reached:
        reached |= more
    assert not [a for a, b in reached if a == b], "groups import each other in a circle"
    assert arrows == {
        (a, b) for a, b in real if not any((a, c) in reached and (c, b) in reached for c in groups.values())
    }
