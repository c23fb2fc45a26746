"""The browser that the tests of the report share."""

from collections.abc import Iterator

import browser as chromium
import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[chromium.Browser]:
    if chromium.find() is None:
        if chromium.required():
            pytest.fail("SGDSCOPE_REQUIRE_BROWSER is set, but chromium and chromedriver are not on the path")
        pytest.skip("chromium and chromedriver are not on the path")
    with chromium.started() as started:
        yield started
