"""Fixtures that several test files use."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos and real CLIP features, which only developers have."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real photos and CLIP features (shared/data) are not on this machine")
    return SHARED_DATA
