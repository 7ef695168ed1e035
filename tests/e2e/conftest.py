"""Fixtures. `world` starts what a test asks for and takes it down; `module_world` does so once for a file, for tests
that leave no trace. What the programs said is shown when a test fails."""

import os
import sys

import pytest

os.environ['no_proxy'] = os.environ['NO_PROXY'] = '*'  # of clients that read it: all of this is local

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from programs import SIM, SLUICE, World  # noqa: E402  pylint: disable=wrong-import-position


def pytest_configure():
    for path in (SLUICE, SIM):
        if not os.access(path, os.X_OK):
            pytest.exit(f'{path} is not there: ./build.sh build', returncode=1)


@pytest.fixture
def world():
    it = World()
    yield it
    it.close()


@pytest.fixture(scope='module')
def module_world():
    it = World()
    yield it
    it.close()
