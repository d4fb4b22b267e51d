"""Package description for pip and for colcon (ament_python); package.xml names the ROS dependencies."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "clipoint3d_ros"
SHARE = Path("share") / PACKAGE
SUFFIXES = (".py", ".yaml", ".rviz", ".xml", ".json")  # of files that are installed beside the code


def folders(*names):
    """Every file under the named folders, as the (destination, files) pairs that `data_files` wants."""
    files = sorted(path for name in names for path in Path(name).rglob("*") if path.suffix in SUFFIXES)
    parents = sorted({path.parent for path in files})
    return [(str(SHARE / parent), [str(path) for path in files if path.parent == parent]) for parent in parents]


def assets():
    """The embedded models: whatever lies in the package's `assets` folder."""
    root = Path(PACKAGE)
    return sorted(str(path.relative_to(root)) for path in (root / "assets").rglob("*") if path.is_file())


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Recognises segmented point-cloud objects with CLIP on their depth views, and adapts to what it sees.",
    license="Apache-2.0",
    maintainer="clipoint3d_ros maintainers",
    maintainer_email="maintainers@example.org",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: assets()},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (str(SHARE), ["package.xml"]),
        *folders("launch", "config", "rviz"),
    ],
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.1",
        "torchvision>=0.16",
        "open_clip_torch>=2.24",
        'open3d-cpu>=0.17; sys_platform == "linux" and platform_machine == "x86_64"',
        'open3d>=0.17; sys_platform != "linux" or platform_machine != "x86_64"',
        "POT>=0.9.1",
        "numpy>=1.21",
        "scipy>=1.8",
        "trimesh>=4",
        "safetensors>=0.4",
        "huggingface_hub>=0.20",
        "rosbags>=0.10",
        "h5py>=3.6",
        "matplotlib>=3.5",
        "pillow>=9",
        "PyYAML>=5.4",
        "tensorboard>=2.9",
        "tqdm>=4.60",
    ],
    extras_require={
        "test": ["pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "hypothesis>=6.100"],
        "onnx": ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18"],
        "fleet": ["ray>=2.9"],  # `evaluate --ray`: recordings over the machines of a cluster
        "triton": ['triton>=3; sys_platform == "linux"'],  # torch's CUDA builds bring it along
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"clipoint3d = {PACKAGE}.cli:main",
            f"perception_node = {PACKAGE}.nodes.perception_node:main",
            f"adaptation_node = {PACKAGE}.nodes.adaptation_node:main",
            f"segmenter_node = {PACKAGE}.nodes.segmenter_node:main",
            f"robot_nodes = {PACKAGE}.nodes.robot_nodes:main",
            f"evaluate_bag = {PACKAGE}.commands.evaluate:main",
        ],
    },
)
