"""ament's linters, as a ROS build farm runs them, where a ROS installation has them.

Sources carry no copyright notice of their own, so ament_copyright looks at LICENSE alone: that it is the licence which
package.xml names, to the letter. ament_flake8 and ament_pep257 look for what `ruff` holds this code to, not for ament's
own layout of quotes and docstrings.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [str(ROOT / name) for name in ("clipoint3d_ros", "launch", "setup.py", "test", "env")]
XML = [str(ROOT / name) for name in ("package.xml", "config")]
# What this project does otherwise than the convention, google's: obvious names go without a docstring; a summary may
# take two lines, begins on the first, and may begin with a name or a formula; arguments are named that need it.
LEFT_ALONE = [*(f"D10{number}" for number in range(8)), "D205", "D209", "D210", "D212", "D402", "D403", "D415", "D417"]

pytestmark = [pytest.mark.linter]


def check(linter: str, *arguments: str) -> int:
    """The linter's exit code; it says itself what it found."""
    package = pytest.importorskip(
        f"ament_{linter}.main", reason=f"ament_{linter} is not installed: it comes with a ROS 2 installation"
    )
    return package.main(argv=list(arguments))


@pytest.mark.copyright
def test_the_licence_is_the_one_that_is_named():
    assert check("copyright", str(ROOT / "LICENSE")) == 0


@pytest.mark.flake8
def test_flake8_finds_nothing():
    assert check("flake8", "--config", str(ROOT / "test" / "ament" / "flake8.ini"), *PYTHON) == 0


@pytest.mark.pep257
def test_docstrings_follow_pep_257():
    code = PYTHON[:3]  # tests are sentences already
    assert check("pep257", "--convention", "google", "--add-ignore", *LEFT_ALONE, "--", *code) == 0


@pytest.mark.xmllint
def test_xml_files_are_well_formed_and_package_xml_follows_its_schema(capfd):
    if shutil.which("xmllint") is None:
        pytest.skip("xmllint is not installed: apt install libxml2-utils")
    failed = check("xmllint", *XML)
    if failed and "Failed to locate the main schema resource" in "".join(capfd.readouterr()):
        pytest.skip("package.xml's schema lies at download.ros.org, which cannot be reached from here")
    assert not failed


def test_every_linter_that_package_xml_names_is_run():
    named = re.findall(r"<test_depend>ament_(\w+)</test_depend>", (ROOT / "package.xml").read_text())
    run = re.findall(r'check\("(\w+)"', Path(__file__).read_text())
    assert sorted(named) == sorted(run)
