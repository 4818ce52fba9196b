"""Packaging of metaslac; settings of the tools are in pyproject.toml."""

import re
import runpy
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (ROOT / "metaslac/storage/version.py").read_text(), re.M
).group(1)
README = ROOT / "README.md"

# `envs` and `launchers` lie beside `metaslac` and are installed inside it; the links in its folder are for
# tools that read the source, and must not be packed twice.
PACKAGES = [
    "metaslac",
    *(
        f"metaslac.{name}"
        for name in find_packages(ROOT / "metaslac")
        if not name.startswith(("envs", "launchers"))
    ),
    *(f"metaslac.{name}" for name in find_packages(ROOT, include=["envs*", "launchers*"])),
]
DOCS = ["zensical", "mkdocstrings-python"]


def write_commit(storage: Path) -> None:
    """Write into a copy of metaslac/storage from which commit it is; nothing where that is not known."""
    provenance = runpy.run_path(str(ROOT / "metaslac/storage/provenance.py"))
    if commit := provenance["source_commit"]():
        (storage / provenance["COMMIT_FILE"]).write_text(f"{commit}\n", encoding="utf-8")


class BuildWithCommit(build_py):
    """Builds the package with the commit it is built from."""

    def run(self):
        super().run()
        if not self.editable_mode:  # which is run from the repository itself
            write_commit(Path(self.build_lib) / "metaslac/storage")


class SourceWithCommit(sdist):
    """Packs the source with its commit, for what is built from that."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        write_commit(Path(base_dir) / "metaslac/storage")


setup(
    name="metaslac",
    version=VERSION,
    description="Meta-reinforcement learning from pixels: PEARL's task inference on SLAC's latent model",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="the metaslac authors",
    license="MIT",
    license_files=["LICENSE"],
    keywords="meta-learning reinforcement-learning pixels SLAC PEARL MuJoCo",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    packages=PACKAGES,
    cmdclass={"build_py": BuildWithCommit, "sdist": SourceWithCommit},
    package_dir={"metaslac": "metaslac", "metaslac.envs": "envs", "metaslac.launchers": "launchers"},
    package_data={
        "metaslac": ["py.typed", "zoo/*/*"],
        "metaslac.launchers.report": ["*.j2", "*.css", "*.js"],
        "metaslac.launchers.watch": ["*.html", "*.css", "*.js"],
    },
    python_requires=">=3.11",
    install_requires=[
        "torch>=2.6",
        "numpy",
        "gymnasium[mujoco]>=1.1",
        "mujoco>=3.17,<4",  # dm_control 1.0.50 does not work with MuJoCo 4
        "dm_control>=1.0.50",
        "click>=8.2",
        "filelock>=4.2.4",  # whose soft locks know a process from a later one of its number
        "pyyaml",
        "tensorboardX",
        "safetensors",
        "tqdm",
        "imageio",
        "imageio-ffmpeg",
        "pillow",
        "matplotlib",
        "jinja2",
    ],
    extras_require={
        "data": ["minari>=0.5.4", "h5py"],  # data sets of Minari's
        "docs": DOCS,
        "wandb": ["wandb>=0.31"],  # runs told of there
        "mlflow": ["mlflow-skinny>=3.17"],  # likewise
        "hub": ["huggingface_hub>=1.0"],  # agents on Hugging Face's Hub
        "slurm": ["submitit>=1.5.4,<2"],  # sweeps on a cluster
        "test": [
            *("pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "import-linter"),
            *("scipy", "selenium"),  # statistics and pages to compare with
            *("minari>=0.5.4", "h5py"),
            *DOCS,
            *("huggingface_hub>=1.0", "wandb>=0.31", "mlflow-skinny>=3.17"),
            "submitit>=1.5.4,<2",
        ],
    },
    entry_points={"console_scripts": ["metaslac=metaslac.launchers.cli:main"]},
)
