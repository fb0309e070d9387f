"""What every test of a whole training needs."""

import pytest
import torch


@pytest.fixture(scope="module")
def same_everywhere(tmp_path_factory):
    """Procedural objects and backgrounds alone; the threads that training sets are set back."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWPOSE_DATA", str(tmp_path_factory.mktemp("no_data")))
        patch.delenv("WORLD_SIZE", raising=False)
        yield
    torch.set_num_threads(threads)
