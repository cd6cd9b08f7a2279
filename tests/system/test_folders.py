import errno

import pytest

from sr_tile.system.folders import make_folders


def test_folders_are_made_with_all_that_they_lie_in_and_may_be_there(tmp_path):
    for _ in range(2):
        make_folders(tmp_path / "a" / "b", 0o700)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_more_folders_than_python_makes_are_an_error_of_the_system_and_none_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="lies in too many folders") as caught:
        make_folders(tmp_path.joinpath(*"x" * 1900))
    assert caught.value.errno == errno.ENAMETOOLONG
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", [("--job", "{deep}", "in.png", "out.png"), ("in.png", "{deep}/out.png")])
def test_results_and_jobs_within_too_many_folders_are_refused_in_a_line(run, tmp_path, where):
    from support.image_files import save
    from support.toys import identity_model, noise_image

    save(tmp_path / "in.png", noise_image(8, 8))
    model = identity_model(tmp_path / "m.onnx")
    deep = "/".join("x" * 1900)
    code, _, err = run("enhance", "--model", model, "-q", *(part.format(deep=deep) for part in where))
    assert (code, err.count("\n")) == (1, 1), err
    assert "lies in too many folders" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "m.onnx"]
