import pytest

from sr_tile.errors import ArgumentError, ModelLoadError, UnknownModelError
from sr_tile.export.pull import pull
from sr_tile.models import listing, zoo


def test_bundled_models_are_found_by_name_scale_and_default():
    for scale, name in zoo.DEFAULT.items():
        assert zoo.find(scale=scale) == zoo.find(name) == zoo.bundled()[name]
    assert zoo.find() == zoo.find(scale=2)


def test_names_that_models_had_once_are_still_known():
    assert zoo.find("x2") == zoo.find("clean-x2")
    assert zoo.find("x4") == zoo.find("clean-x4")
    assert not set(zoo.OLD_NAMES) & set(zoo.bundled())


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "x2"
    path.write_bytes(b"")
    assert zoo.find(path) == path


def test_what_is_not_there_is_said_with_what_is(tmp_path):
    for model in ("no-such", tmp_path / "gone.onnx"):
        with pytest.raises(ModelLoadError, match="x2"):
            zoo.find(model)
    with pytest.raises(ArgumentError, match="enlarges by 7"):
        zoo.find(scale=7)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("renamed.onnx", b"PK\x03\x04 as torch.save writes"),
        ("older.onnx", b"\x80\x02}q\0 as torch.save once wrote"),
        ("safe.onnx", (58).to_bytes(8, "little") + b'{"a": {}}'),
    ],
)
def test_a_checkpoint_under_another_suffix_is_named_as_one(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"checkpoint of PyTorch.*suffix \.pth"):
        zoo.find(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"<HTML><head>", "web page"),
    ],
)
def test_what_a_failed_download_leaves_is_named(tmp_path, content, words):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelLoadError, match=words):
        zoo.find(tmp_path / "net.onnx")


def test_bundled_models_are_no_checkpoints():
    for name, path in zoo.bundled().items():
        assert zoo.find(path) == zoo.find(name) == path


def test_names_that_no_file_system_has_are_one_line(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in (tmp_path / ("b" * 300), tmp_path / "loop"):
        with pytest.raises(ModelLoadError) as caught:
            zoo.find(name)
        assert "cannot be opened" in str(caught.value)


def test_a_scale_beside_a_model_is_at_most_the_models():
    for wanted in (None, 2, 1.5, 0.1):
        zoo.check_scale("x2", 2, wanted)
    with pytest.raises(ArgumentError, match=r"denoise enlarges by 1, not by 2.*leave out the scale.*2 is "):
        zoo.check_scale("denoise", 1, 2)
    with pytest.raises(ArgumentError, match="choose another model"):
        zoo.check_scale("x2", 2, 7)


def test_the_least_model_that_reaches_a_scale():
    assert [zoo.reaching(factor) for factor in (0.5, 1, 2, 2.01, 3, 4)] == [2, 2, 2, 4, 4, 4]
    with pytest.raises(ArgumentError, match=r"enlarges by 4\.01: 4 is the most"):
        zoo.reaching(4.01)


def test_what_one_model_does_not_reach_two_do_in_turn():
    assert [zoo.reaching_in_turn(factor) for factor in (1, 4, 4.01, 8, 8.5, 16)] == [
        (2,),
        (4,),
        (4, 2),
        (4, 2),
        (4, 4),
        (4, 4),
    ]
    with pytest.raises(ArgumentError, match=r"enlarge by 17: 16 is the most, by two in turn"):
        zoo.reaching_in_turn(17)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photo-x3", "did you mean photo-x4 or photo-x2?"),
        ("Denoise", "did you mean denoise?"),
        ("mynet2", "did you mean mynet?"),
        ("clean-x2.onnx", "there is no such file; did you mean clean-x2"),
        ("scunet-color-real-psrn", "did you mean scunet-color-real-psnr"),
        ("nothing-like-it", "bundled models are"),
    ],
)
def test_a_name_that_is_nearly_one_is_answered_with_that_one(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    zoo.pulled_folder().mkdir(parents=True)
    (zoo.pulled_folder() / "mynet.onnx").write_bytes(b"")
    with pytest.raises(ModelLoadError) as caught:
        zoo.find(name)
    assert words in str(caught.value)


def test_so_is_one_that_is_to_be_removed_or_pulled():
    zoo.pulled_folder().mkdir(parents=True)
    (zoo.pulled_folder() / "mynet.onnx").write_bytes(b"")
    with pytest.raises(ArgumentError, match="did you mean mynet"):
        listing.remove("mynett")
    with pytest.raises(UnknownModelError, match="did you mean scunet-color-real-psnr"):
        pull("scunet-color-real-psrn")
