"""The layout of the package: imports run one way, and what is heavy is imported late."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sr_tile"


def listed() -> list[str]:
    """The stack of modules as CONTRIBUTING shows it: a module imports only modules above it."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Where things are")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)/?` \|", table, re.MULTILINE)


ORDER = ["sr_tile", *listed(), "__main__"]


def layer(module: str) -> int:
    parts = module.split(".")
    return ORDER.index(parts[1] if len(parts) > 1 else parts[0])


def imports(path: Path):
    """Modules of the package that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sr_tile":
            if node.module == "sr_tile":
                for alias in node.names:
                    yield f"sr_tile.{alias.name}" if alias.name in ORDER else "sr_tile"
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "sr_tile")


def test_imports_run_one_way():
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        if path == PACKAGE / "__init__.py":  # the face shows what lies below it, and loads it late
            continue
        relative = path.relative_to(PACKAGE.parent).with_suffix("")
        name = ".".join(part for part in relative.parts if part != "__init__")
        for imported in imports(path):
            seen += 1
            same = name.split(".")[:2] == imported.split(".")[:2]
            assert same or layer(imported) < layer(name), f"{name} imports {imported}"
    assert seen > 30


def test_the_listing_is_what_contributing_says_and_short():
    names = {path.stem if path.suffix == ".py" else path.name for path in PACKAGE.iterdir()}
    names -= {"__init__", "__main__", "__pycache__", "py.typed", "bundled"}
    assert names == set(listed())
    assert len(names) <= 19


MOST_LINES = 60


def test_no_function_is_longer_than_a_page():
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                seen += 1
                lines = node.end_lineno - node.lineno + 1
                assert lines <= MOST_LINES, f"{path.name}: {node.name} has {lines} lines"
    assert seen > 500


def test_a_runtime_is_used_in_one_file_only_and_its_tools_serve_the_exporter_only():
    importers = [path.name for path in PACKAGE.rglob("*.py") if "import onnxruntime" in path.read_text()]
    assert importers == ["onnx_sessions.py"]
    importers = [path.name for path in PACKAGE.rglob("*.py") if "    import openvino" in path.read_text()]
    assert importers == ["openvino_runtime.py"]
    tools = {path.parent.name for path in PACKAGE.rglob("*.py") if "from onnxruntime" in path.read_text()}
    assert tools <= {"precision"}


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from sr_tile.cli.main import app; from typer.main import get_command\n"
        "def paths(group):\n"
        "    for name, command in group.commands.items():\n"
        "        yield [name]\n"
        "        yield from ([name, *path] for path in (paths(command) if hasattr(command, 'commands') else ()))\n"
        "commands = [[], *paths(get_command(app))]\n"
        "assert ['export-onnx'] in commands and ['models', 'pull'] in commands, commands\n"
        "for command in commands:\n"
        "    try: app([*command, '--help'])\n"
        "    except SystemExit as stop: assert not stop.code, command\n"
        "print([name for name in sys.modules if name in "
        "('numpy', 'onnxruntime', 'onnx', 'pyvips', 'PIL', 'openvino', 'torch', 'tqdm', 'psutil', 'ray', 'fastapi', "
        "'starlette', 'uvicorn')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
