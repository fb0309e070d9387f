import pytest
import synthetic_bop


@pytest.fixture
def bop_root(tmp_path):
    """A tiny BOP dataset with two images of 320 x 240."""
    return synthetic_bop.write_dataset(tmp_path / "tiny")
