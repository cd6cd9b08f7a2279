import pytest
from PIL import Image
from support.toys import noise_image


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for index in range(4):
        Image.fromarray(noise_image(40 + index, 30, seed=index)).save(tmp_path / "in" / f"{index}.png")
    return tmp_path
