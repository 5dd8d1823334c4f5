"""The imports of the project, read from the source: who imports whom, circles, and a picture of each folder.

    python -m tests.import_graph              rooms, arrows and circles of every folder
    python -m tests.import_graph --root DIR   the same of another checkout
    python -m tests.import_graph --write      draw them into docs/architecture.md

A room is a file or a subfolder of a folder; an arrow is one or more imports from one room to another.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

FOLDERS = ("mobilevlm", "engines", "export", "runtime", "train", "eval", "jetson")
# What is imported from these may be a module: `from mobilevlm import runtime` is an import of mobilevlm.runtime.
NAMESPACES = {"mobilevlm", "safetensors"}
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- imports: begin -->", "<!-- imports: end -->"
Graph = dict[str, set[str]]


def module_name(path: Path, root: Path) -> str:
    """`engines/bundle.py` is `mobilevlm.engines.bundle`."""
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts if parts[0] == "mobilevlm" else ("mobilevlm", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, root: Path, nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str, int]]:
    """Line, absolute name and level of every import among the nodes; a name given to import_module counts."""
    package = module_name(path, root).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *(node.module.split(".") if node.module else [])])
            # `from . import x` names modules; `from .x import y` names a module and something in it.
            whole = node.module and name not in NAMESPACES
            yield from ((node.lineno, name if whole else f"{name}.{a.name}", node.level) for a in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            named = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            if named and not named.startswith("."):  # `.{name}` stays inside its own package
                yield node.lineno, named, 0


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """Top folder and path of every source file."""
    for folder in FOLDERS:
        yield from ((folder, path) for path in sorted((root / folder).rglob("*.py")))


def import_graph(root: Path) -> Graph:
    """Every module of the project to those it imports, inside functions and under TYPE_CHECKING too.

    `from package import name` is an import of the module `package.name` where there is one. A module and the package it
    lies in are no circle by themselves: Python runs the package first.
    """
    paths = {module_name(path, root): path for _, path in sources(root)}
    graph: Graph = {name: set() for name in paths}
    for module, path in paths.items():
        tree = ast.parse(path.read_text())
        names = [name for _, name, _ in imports(path, root, ast.walk(tree))]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
                base = package[: len(package) - node.level + 1] if node.level else []
                whole = ".".join([*base, *(node.module.split(".") if node.module else [])])
                names += [f"{whole}.{alias.name}" for alias in node.names if f"{whole}.{alias.name}" in paths]
        for name in names:
            while name and name not in paths:
                name = name.rpartition(".")[0]
            if name and name not in (module, "mobilevlm"):
                graph[module].add(name)
        # Of a package and a module in it, the module is meant.
        graph[module] -= {name for name in graph[module] if any(one.startswith(f"{name}.") for one in graph[module])}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that import each other, directly or by way of others (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return sorted(found)


def folders_of(graph: Graph) -> list[str]:
    """Every package with something in it, `mobilevlm` (the top folders) first."""
    parts = [name.split(".") for name in graph]
    return sorted({".".join(one[:length]) for one in parts for length in range(1, len(one))})


def rooms(graph: Graph, folder: str) -> Graph:
    """What lies directly in a folder, and who of it imports whom.

    Args:
        graph: of all modules.
        folder: dotted name of a package; `mobilevlm` is the top, where its own files are one room.
    """
    prefix = f"{folder}."

    def room(module: str) -> str | None:
        if not module.startswith(prefix):
            return None
        name = module.removeprefix(prefix).split(".")[0]
        return "mobilevlm" if folder == "mobilevlm" and name not in FOLDERS else name

    found: Graph = {}
    for module, others in graph.items():
        if (mine := room(module)) is None:
            continue
        arrows = found.setdefault(mine, set())
        arrows |= {other for one in others if (other := room(one)) not in (None, mine) and other is not None}
    return found


def own_rooms(graph: Graph) -> dict[str, Graph]:
    """Rooms of every folder; those of the package `mobilevlm` itself, which is also the top, as `mobilevlm/`."""
    found = {folder: rooms(graph, folder) for folder in folders_of(graph)}
    inside = {name: others for name, others in graph.items() if name.split(".")[1:2] and not is_top(name)}
    found["mobilevlm/"] = {}
    for module, others in inside.items():
        mine = module.split(".")[1]
        arrows = found["mobilevlm/"].setdefault(mine, set())
        arrows |= {one.split(".")[1] for one in others if not is_top(one)} - {mine}
    return found


def is_top(module: str) -> bool:
    """Whether a module lies in another top folder than `mobilevlm`, or is one."""
    return module.split(".")[1] in FOLDERS[1:]


def order(graph: Mapping[str, set[str]]) -> list[str]:
    """Rooms from the one that nobody imports down; needs a graph without circles to be meaningful."""
    depth: dict[str, int] = {}

    def below(node: str, path: tuple[str, ...]) -> int:
        if node not in depth:
            depth[node] = 1 + max((below(one, (*path, node)) for one in graph[node] if one not in path), default=0)
        return depth[node]

    return sorted(graph, key=lambda node: (-below(node, (node,)), node))


def necessary(graph: Mapping[str, set[str]]) -> Graph:
    """A graph without the arrows that a longer way implies: what is worth drawing."""

    def reached(start: str, seen: set[str]) -> set[str]:
        for one in graph[start]:
            if one not in seen:
                seen.add(one)
                reached(one, seen)
        return seen

    return {
        node: {one for one in others if not any(one in reached(other, set()) for other in others - {one})}
        for node, others in graph.items()
    }


def drawn(graph: Graph) -> Iterator[str]:
    """A Mermaid figure of a folder's rooms; arrows that others imply are left out."""
    yield "```mermaid"
    yield "flowchart TD"
    names = order(graph)
    for name in names:
        yield f'    {name}["{name}"]'
    arrows = necessary(graph)
    for name in names:
        yield from (f"    {name} --> {other}" for other in sorted(arrows[name]))
    yield "```"


def summary(graph: Graph) -> list[tuple[str, int, int, list[list[str]]]]:
    """Folder, rooms, arrows and circles, a row each."""
    found = own_rooms(graph)
    return [(name, len(one), sum(map(len, one.values())), circles(one)) for name, one in sorted(found.items())]


def page(graph: Graph) -> str:
    """The generated part of docs/architecture.md: a table of folders, figures of the top ones."""
    lines = ["| folder | rooms | arrows | circles |", "|---|---|---|---|"]
    lines += [
        f"| {path_of(name)} | {count} | {arrows} | {len(rings)} |" for name, count, arrows, rings in summary(graph)
    ]
    for name, one in sorted(own_rooms(graph).items()):
        if name in ("mobilevlm", "mobilevlm/") or name.count(".") == 1 and is_top(name):
            lines += ["", f"### {path_of(name)}", "", *drawn(one)]
    return "\n".join(lines)


def path_of(folder: str) -> str:
    """A folder as people write it; the top folders are `(top)`."""
    if folder == "mobilevlm":
        return "(top folders)"
    return folder.removeprefix("mobilevlm.").rstrip("/").replace(".", "/") if folder != "mobilevlm/" else "mobilevlm"


def replaced(text: str, graph: Graph) -> str:
    """The page with its generated part made anew.

    Args:
        text: of docs/architecture.md.
        graph: of all modules.
    """
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{page(graph)}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Print the table, or draw the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="a checkout (default: this one)")
    parser.add_argument("--write", action="store_true", help="draw docs/architecture.md anew")
    options = parser.parse_args()
    graph = import_graph(options.root.resolve())
    if options.write:
        PAGE.write_text(replaced(PAGE.read_text(), graph))
        return
    for name, count, arrows, rings in summary(graph):
        print(f"{path_of(name):28} {count:3} rooms {arrows:3} arrows {len(rings)} circles")
    for ring in circles(graph):
        print("circle of files:", ", ".join(ring))
    for name, _, _, rings in summary(graph):
        for ring in rings:
            print(f"circle of rooms in {path_of(name)}:", ", ".join(ring))


if __name__ == "__main__":
    main()
