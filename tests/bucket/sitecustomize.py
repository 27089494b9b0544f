"""A bucket of an object store for programs that tests start: gs:// is a folder of this machine.

What differs from a folder is kept: nothing can be appended to, a folder is there where something is
in it, and what is removed last takes its folder with it. The folder is that of the environment
variable JAXLE_TEST_BUCKETS; programs find this file through PYTHONPATH.
"""

import os

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Buckets(LocalFileSystem):
    """gs://bucket/name as a file below a folder."""

    protocol = ("gcs", "gs")

    @classmethod
    def _strip_protocol(cls, path):
        root = os.environ["JAXLE_TEST_BUCKETS"]
        path = os.fspath(path)
        if path.startswith("gs://"):
            path = os.path.join(root, path.removeprefix("gs://"))
        return super()._strip_protocol(path)

    def open(self, path, mode="rb", **options):
        if "a" in mode or "+" in mode:
            raise NotImplementedError("an object can be written whole, and not appended to")
        if "w" in mode:
            os.makedirs(os.path.dirname(self._strip_protocol(path)), exist_ok=True)
        return super().open(path, mode=mode, **options)

    def isdir(self, path):
        path = self._strip_protocol(path)
        return os.path.isdir(path) and bool(os.listdir(path))

    def exists(self, path, **options):
        return self.isdir(path) or self.isfile(path)

    def mkdir(self, path, create_parents=True, **options):
        """A folder is there as soon as something is in it."""

    def makedirs(self, path, exist_ok=False):
        """A folder is there as soon as something is in it."""


if "JAXLE_TEST_BUCKETS" in os.environ:
    for name in Buckets.protocol:
        fsspec.register_implementation(name, Buckets, clobber=True)
