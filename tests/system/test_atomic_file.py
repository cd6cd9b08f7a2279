import pytest

from sr_tile.system.atomic_file import atomic_write


def test_the_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "report.json"
    with atomic_write(target) as temporary:
        temporary.write_text("one")
        assert not target.exists()
    assert target.read_text() == "one"
    with pytest.raises(UnicodeEncodeError), atomic_write(target) as temporary:
        temporary.write_text("two\ud800", encoding="utf-8")
    assert target.read_text() == "one"
    assert list(tmp_path.iterdir()) == [target]


def test_two_writers_do_not_share_a_file(tmp_path):
    target = tmp_path / "model.onnx"
    with atomic_write(target) as first, atomic_write(target) as second:
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"
