"""Settings of the runs that tests/test_multihost.py makes with one process and with several."""

from ml_collections import ConfigDict

from tests import runs


def get_config():
    from tests.test_multihost import FIELDS

    return ConfigDict(runs.changed({**runs.QUICK, **FIELDS}))
