"""Compile a ROS 2 message package from its .msg files into this environment, without CMake.

The ROS wheels bring the rosidl generators but not vision_msgs, and the `rosidl` command that should drive them stops
at duplicate entry points. So the generators' own classes are called here, g++ compiles what they write, and the
result is laid out as a wheel's message package is: libraries in `lib`, the Python package in site-packages,
definitions in `share`. The type hash of every message must equal the published one, or no other node would talk to
it: `type_hashes.txt` beside package.xml holds them.

    python env/build_messages.py env/messages/vision_msgs
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PREFIX = Path(sys.prefix)

# Each way of serialising, and what its library of a message package links against.
TYPESUPPORTS = {
    "rosidl_typesupport_c": ["rosidl_typesupport_c"],
    "rosidl_typesupport_fastrtps_c": [
        "fastcdr",
        "rmw",
        "rosidl_typesupport_fastrtps_c",
        "rosidl_typesupport_fastrtps_cpp",
    ],
    "rosidl_typesupport_introspection_c": ["rosidl_typesupport_introspection_c"],
}
COMMON, FAST, INTROSPECTION = TYPESUPPORTS
RUNTIME = ["rosidl_runtime_c", "rcutils"]


def main(package: Path, prefix: Path = PREFIX) -> None:
    """Generate, check, compile and install one message package.

    Args:
        package: folder with package.xml, type_hashes.txt and msg/*.msg.
        prefix: where to install; the running environment, which also has the generators and the dependencies.
    """
    # The generators find their templates, and each other, through the ament index of the environment.
    os.environ["AMENT_PREFIX_PATH"] = str(PREFIX)
    name, dependencies = _read_manifest(package / "package.xml")
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as scratch:
        work = Path(scratch)
        sources = generate(name, dependencies, package, work)
        check_hashes(sources["descriptions"], published_hashes(package))
        compile_all(name, dependencies, work, sources, prefix)
        install(name, package, work, sources, prefix)


def generate(name: str, dependencies: Iterable[str], package: Path, work: Path) -> dict[str, list[Path]]:
    """Write all sources, each generator's into a folder of its own: two of them write files of the same name."""
    from rosidl_adapter.cli import TranslateMsgToIDL
    from rosidl_generator_c.cli import GenerateC
    from rosidl_generator_py.cli import GeneratePython
    from rosidl_generator_type_description.cli import HashTypeDescription
    from rosidl_typesupport_c.cli import GenerateCTypesupport
    from rosidl_typesupport_fastrtps_c.cli import GenerateFastRTPSCTypesupport
    from rosidl_typesupport_introspection_c.cli import GenerateIntrospectionCTypesupport

    include = [str(path) for path in _definitions(dependencies)]
    messages = [f"{package.resolve()}:msg/{path.name}" for path in sorted((package / "msg").glob("*.msg"))]
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of every file
        idl = TranslateMsgToIDL("msg").translate(name, messages, include, work / "idl")
    descriptions = HashTypeDescription("hash").generate_type_hashes(name, idl, include, work / "idl")
    GenerateC("c").generate(name, idl, include, work / "c" / name, type_description_files=descriptions)
    support = {"typesupport_implementations": [FAST, INTROSPECTION]}
    for generator, folder in (
        (GenerateCTypesupport("c", **support), COMMON),
        (GenerateFastRTPSCTypesupport("fastrtps"), FAST),
        (GenerateIntrospectionCTypesupport("introspection"), INTROSPECTION),
        (GeneratePython("py", typesupport_implementations=list(TYPESUPPORTS)), "py"),
    ):
        generator.generate(name, idl, include, work / folder / name)
    sources = {
        folder: sorted(path for path in (work / folder).rglob("*.c*") if ".ep." not in path.name)
        for folder in ("c", *TYPESUPPORTS, "py")
    }
    sources["entries"] = sorted((work / "py").rglob("*.ep.*.c"))
    sources["idl"] = sorted((work / "idl").rglob("*.idl"))
    sources["descriptions"] = [Path(path) for path in descriptions]
    return sources


def published_hashes(package: Path) -> dict[str, str]:
    """Message name to type hash, as published with the package's ROS release."""
    words = (package / "type_hashes.txt").read_text().split()
    return dict(zip(words[::2], words[1::2], strict=True))


def check_hashes(descriptions: Iterable[Path], published: dict[str, str]) -> None:
    """Stop where a message differs from the published one of its name, or is not among the published."""
    for path in descriptions:
        own = json.loads(path.read_text())["type_hashes"]
        full_name = next(entry["type_name"] for entry in own if Path(entry["type_name"]).name == path.stem)
        made = next(entry["hash_string"] for entry in own if entry["type_name"] == full_name)
        if made != published.get(path.stem):
            raise SystemExit(
                f"{full_name} has type hash {made}, published is {published.get(path.stem, 'none')}: "
                "its .msg file and type_hashes.txt disagree; correct the fields, their order or the table"
            )


def compile_all(name: str, dependencies: list[str], work: Path, sources: dict[str, list[Path]], prefix: Path) -> None:
    """Compile and link: one library per generator, then the Python extension modules on top of them."""
    import numpy

    headers = [work / folder for folder in ("c", *TYPESUPPORTS)]
    headers += [PREFIX / "include", *(path for path in (PREFIX / "include").iterdir() if path.is_dir())]
    headers += [Path(sysconfig.get_path("include")), Path(numpy.get_include())]
    flags = ["-fPIC", "-O2", "-w", *(f"-I{path}" for path in headers)]

    def compiled(source: Path) -> str:
        target = source.with_suffix(source.suffix + ".o")
        language = ["gcc", "-std=gnu11"] if source.suffix == ".c" else ["g++", "-std=c++17"]
        _call(target, *language, *flags, "-c", str(source))
        return str(target)

    groups = {key: sources[key] for key in ("c", *TYPESUPPORTS, "py", "entries")}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = {key: list(pool.map(compiled, group)) for key, group in groups.items()}

    library = prefix / "lib"
    library.mkdir(parents=True, exist_ok=True)
    search = [f"-L{library}", f"-L{PREFIX / 'lib'}", "-Wl,-rpath,$ORIGIN"]

    def link(target: Path, parts: list[str], libraries: Iterable[str]) -> None:
        _call(target, "g++", "-shared", *parts, *search, *(f"-l{item}" for item in libraries))

    def of(suffix: str) -> list[str]:
        return [f"{dependency}__{suffix}" for dependency in dependencies]

    structs = f"{name}__rosidl_generator_c"
    link(library / f"lib{structs}.so", objects["c"], [*of("rosidl_generator_c"), *RUNTIME])
    for support, libraries in TYPESUPPORTS.items():
        link(library / f"lib{name}__{support}.so", objects[support], [structs, *of(support), *libraries, *RUNTIME])
    python = f"{name}__rosidl_generator_py"
    c_support = f"{name}__rosidl_typesupport_c"
    link(library / f"lib{python}.so", objects["py"], [structs, c_support, *of("rosidl_generator_py")])
    site = _site(prefix) / name
    site.mkdir(parents=True, exist_ok=True)
    search.append("-Wl,-rpath,$ORIGIN/../../..")
    for entry in objects["entries"]:
        support = Path(entry).name.split(".")[2]
        module = site / f"{name}_s__{support}{sysconfig.get_config_var('EXT_SUFFIX')}"
        link(module, [entry], [python, f"{name}__{support}", c_support, structs, "rosidl_typesupport_c"])


def install(name: str, package: Path, work: Path, sources: dict[str, list[Path]], prefix: Path) -> None:
    """Lay out the Python package and the definitions, and enter the package into the ament index."""
    site = _site(prefix) / name
    (site / "__init__.py").touch()
    shutil.copytree(
        work / "py" / name / "msg", site / "msg", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*_s.c*")
    )
    share = prefix / "share" / name
    (share / "msg").mkdir(parents=True, exist_ok=True)
    shutil.copy2(package / "package.xml", share)
    for path in [*(package / "msg").glob("*.msg"), *sources["idl"], *sources["descriptions"]]:
        shutil.copy2(path, share / "msg")
    index = prefix / "share" / "ament_index" / "resource_index"
    files = sorted(f"msg/{path.name}" for path in (share / "msg").iterdir() if path.suffix in (".msg", ".idl"))
    for kind, content in (("packages", ""), ("rosidl_interfaces", "\n".join(files))):
        (index / kind).mkdir(parents=True, exist_ok=True)
        (index / kind / name).write_text(content)


def _read_manifest(path: Path) -> tuple[str, list[str]]:
    root = ElementTree.parse(path).getroot()
    return str(root.findtext("name")), [str(element.text) for element in root.iter("depend")]


def _definitions(dependencies: Iterable[str]) -> list[Path]:
    # The generators want the definitions of everything reachable, not of the direct dependencies alone.
    return [PREFIX / "share" / name for name in (*dependencies, "builtin_interfaces")]


def _site(prefix: Path) -> Path:
    return Path(sysconfig.get_path("platlib", vars={"platbase": str(prefix)}))


def _call(target: Path, *command: str) -> None:
    done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} could not make {target.name}:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python env/build_messages.py PACKAGE_FOLDER")
    main(Path(sys.argv[1]))
