"""Lists the packages to install: four rooms of the repository become one package, `graphc`.

Everything else about the build stands in pyproject.toml, which cannot map several folders into one
package and still find new sub-packages by itself.
"""

from setuptools import find_packages, setup

ROOMS = {
    "graphc": "graphc",
    "graphc.passes": "passes",
    "graphc.runtime": "runtime",
    "graphc.templates": "templates",
}

setup(
    package_dir=ROOMS,
    packages=[
        *ROOMS,
        *(f"{room}.{package}" for room, folder in ROOMS.items() for package in find_packages(folder)),
    ],
)
