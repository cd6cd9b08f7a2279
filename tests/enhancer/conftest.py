import pytest
from support.toys import identity_model

from sr_tile.enhancer import Enhancer
from sr_tile.planner import Settings


@pytest.fixture
def identity(tmp_path):
    with Enhancer(identity_model(tmp_path / "m.onnx", 2), settings=Settings(tile=32, overlap=8, batch=4)) as enhancer:
        yield enhancer
