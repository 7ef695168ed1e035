"""Helpers of tests/e2e start the programs; what is deployed is read from the tree."""

import os
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ['no_proxy'] = os.environ['NO_PROXY'] = '*'
sys.path.insert(0, os.path.join(ROOT, 'tests', 'e2e'))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from programs import World  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture(scope='module')
def module_world():
    it = World()
    yield it
    it.close()


@pytest.fixture
def world():
    it = World()
    yield it
    it.close()
