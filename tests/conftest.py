"""What holds for all tests: property tests find the same examples every time in CI, and have no deadline anywhere."""

import os

from hypothesis import settings

settings.register_profile("keep-operator", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("keep-operator")
