"""The package as ROS and pip see it: descriptions that agree with each other and with the code, and a real build."""

from __future__ import annotations

import ast
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import uuid
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "clipoint3d_ros"
# Modules whose distribution has another name.
DISTRIBUTIONS = {"open_clip": "open-clip-torch", "ot": "pot", "PIL": "pillow", "yaml": "pyyaml"}


@pytest.fixture(scope="module")
def manifest():
    return ElementTree.parse(ROOT / "package.xml").getroot()


@pytest.fixture
def description(monkeypatch):
    """What setup.py hands to setuptools."""
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path("setup.py")
    return given


def requirement_name(line: str) -> str:
    return re.split(r"[\s<>=!~;\[]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")


def lowest(line: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.search(r">=([\d.]+)", line).group(1).split("."))


def set_up_requirements() -> list[str]:
    lines = (ROOT / "env" / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def test_both_descriptions_say_the_same(manifest, description):
    for key in ("name", "version", "description", "license"):
        assert manifest.findtext(key) == description[key], f"package.xml and setup.py differ in {key}"
    assert manifest.findtext("export/build_type") == "ament_python"


def test_the_set_up_installs_what_setup_py_asks_for(description):
    loose, tight = description["install_requires"], set_up_requirements()
    assert sorted(map(requirement_name, loose)) == sorted(map(requirement_name, tight))
    bounds = {line.partition(";")[0].split(">")[0]: lowest(line) for line in loose}
    for line in tight:
        name = line.partition(";")[0].split(">")[0]
        assert lowest(line) >= bounds[name], f"env/requirements.txt allows {name} older than setup.py does"


def imported_modules() -> set[str]:
    names = set()
    for file in (ROOT / PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {PACKAGE}


def test_everything_imported_is_declared(manifest, description):
    ros = {element.text for element in manifest if element.tag in ("depend", "exec_depend")}
    optional = [line for extra in description["extras_require"].values() for line in extra]
    pip = {requirement_name(line) for line in [*description["install_requires"], *optional]}
    distributions = {name: DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in imported_modules() - ros}
    undeclared = [name for name, distribution in distributions.items() if distribution not in pip]
    assert not undeclared, f"neither package.xml nor setup.py declares {', '.join(sorted(undeclared))}"


def test_every_room_is_a_package_that_is_installed(description):
    rooms = {PACKAGE} | {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / PACKAGE).glob("*/**/*.py")}
    assert rooms == set(description["packages"]), "a folder without __init__.py is not installed"


def test_entry_points_lead_to_functions(description):
    for line in description["entry_points"]["console_scripts"]:
        module, _, function = line.partition("=")[2].strip().partition(":")
        file = ROOT / Path(*module.split(".")).with_suffix(".py")
        functions = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert function in functions, f"'{line}': {file.name} has no function {function}"


def test_every_shared_file_is_installed(description):
    installed = {file for _, files in description["data_files"] for file in files}
    for folder in ("launch", "config", "rviz"):
        files = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}
        left_out = {file for file in files - installed if "__pycache__" not in file}
        assert not left_out, f"setup.py does not install {left_out}"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A colcon workspace with a copy of this package, built."""
    colcon = shutil.which("colcon", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if colcon is None:
        pytest.skip("colcon is not installed; 'make setup' brings it")
    root = tmp_path_factory.mktemp("workspace")
    copy_sources(root / "src" / PACKAGE)
    built = subprocess.run([colcon, "build"], cwd=root, env=outside_the_checkout(), capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-4000:]
    return root


def copy_sources(folder: Path) -> None:
    folder.mkdir(parents=True)
    leave = shutil.ignore_patterns("__pycache__")
    for name in (PACKAGE, "launch", "config", "rviz", "resource"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("package.xml", "setup.py", "setup.cfg", "LICENSE"):
        shutil.copy2(ROOT / name, folder)


def outside_the_checkout() -> dict[str, str]:
    """The environment without this checkout on Python's path, so that what is found is what was installed."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in paths if path and Path(path).resolve() != ROOT]
    prefixes = [sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(kept),
        "AMENT_PREFIX_PATH": os.pathsep.join(dict.fromkeys(prefixes)),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.mark.slow
def test_pip_outside_an_environment_brings_the_configuration_along(tmp_path):
    copy_sources(tmp_path / "source")
    base = tmp_path / "base"  # as ~/.local of a user's install
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--prefix", base, tmp_path / "source"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    module = next(base.rglob(f"{PACKAGE}/resources.py"))
    ask = "from clipoint3d_ros.resources import config_file; print(config_file('classes/tabletop.yaml'))"
    environment = outside_the_checkout() | {"PYTHONPATH": str(module.parents[1])}
    said = subprocess.run([sys.executable, "-c", ask], cwd="/", env=environment, capture_output=True, text=True)
    assert Path(said.stdout.strip()).is_relative_to(base), said.stdout + said.stderr


def in_workspace(workspace: Path, command: str) -> list[str]:
    return ["bash", "-c", f"source {workspace}/install/setup.bash && {command}"]


@pytest.mark.slow
def test_colcon_installs_launch_config_rviz_and_assets(workspace):
    share = workspace / "install" / PACKAGE / "share" / PACKAGE
    for folder in ("launch", "config", "rviz"):
        for path in (ROOT / folder).rglob("*.[pyr]*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (share / path.relative_to(ROOT)).is_file(), f"{path.relative_to(ROOT)} is not in the install"
    package = next((workspace / "install" / PACKAGE / "lib").glob(f"python3.*/site-packages/{PACKAGE}"))
    for path in (ROOT / PACKAGE / "assets").rglob("*"):
        if path.is_file():
            assert (package / path.relative_to(ROOT / PACKAGE)).is_file(), f"{path.name} is not in the install"


@pytest.mark.slow
def test_the_install_finds_its_own_configuration(workspace):
    command = (
        "python -c \"from clipoint3d_ros.resources import config_file; print(config_file('classes/tabletop.yaml'))\""
    )
    done = subprocess.run(
        in_workspace(workspace, command), cwd="/", env=outside_the_checkout(), capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(workspace / "install"), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.ros
@pytest.mark.timeout(180)
def test_perception_node_starts_from_the_install_and_answers(workspace, tmp_path):
    rclpy = pytest.importorskip("rclpy")
    from lifecycle_msgs.srv import GetState

    # The look-up that `ros2 run` makes: the package's prefix in the ament index, then lib/<package>.
    find = f"from ament_index_python.packages import get_package_prefix as p; print(p('{PACKAGE}'))"
    namespace = f"/packaging_{uuid.uuid4().hex[:8]}"
    domain = random.randint(1, 101)  # apart from whatever else speaks ROS on this machine
    command = (
        f'exec "$(python -c "{find}")/lib/{PACKAGE}/perception_node"'
        f" --ros-args -r __ns:={namespace} -p autostart:=false"
    )
    log = tmp_path / "node.log"
    environment = outside_the_checkout() | {"ROS_DOMAIN_ID": str(domain)}
    with log.open("w") as output:
        process = subprocess.Popen(
            in_workspace(workspace, command), cwd="/", env=environment, stdout=output, stderr=output
        )
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("asks", namespace=namespace, context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        client = node.create_client(GetState, f"{namespace}/perception/get_state")
        deadline = time.monotonic() + 90
        while not client.service_is_ready() and time.monotonic() < deadline and process.poll() is None:
            executor.spin_once(timeout_sec=0.2)
        assert client.service_is_ready(), f"the node does not answer; it said:\n{log.read_text()}"
        answer = client.call_async(GetState.Request())
        executor.spin_until_future_complete(answer, timeout_sec=20)
        assert answer.result() is not None, f"no answer; the node said:\n{log.read_text()}"
        assert answer.result().current_state.label == "unconfigured"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0, f"SIGINT did not end it cleanly:\n{log.read_text()}"
    finally:
        process.kill()
        process.wait()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
