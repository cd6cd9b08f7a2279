import pytest
from support.toys import identity_model


@pytest.fixture
def model(tmp_path):
    return identity_model(tmp_path / "model.onnx", 2)
