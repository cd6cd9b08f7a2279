import pytest
import torch

from sr_tile.export.architectures.spandrel.module import declare_operators

declare_operators()  # as the product does before it imports spandrel


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    torch.set_num_threads(2)
