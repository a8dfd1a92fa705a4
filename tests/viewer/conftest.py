"""The tests in `page` need Playwright: `make install` brings it, `make install-test` does not."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("playwright") else ["page"]
