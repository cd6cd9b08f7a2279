import hashlib
import shutil

import pytest
from support.toys import identity_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ArgumentError, DownloadError, ModelError, ModelLoadError
from sr_tile.export.pull import PullOptions, pull
from sr_tile.models import zoo
from sr_tile.models.licences import is_free

CHECKPOINT = b"weights"
URL = "https://example.invalid/toy.pth"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """An official model `toy`, whose checkpoint a stand-in for the network delivers; counts how often."""
    fetched = []

    def deliver(url, target, sha256, *, on_bytes=None):
        fetched.append(url)
        if hashlib.sha256(CHECKPOINT).hexdigest() != sha256:
            raise DownloadError(f"{url}: another file")
        target.write_bytes(CHECKPOINT)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sr_tile.export.pull.download", deliver)
    known = hashlib.sha256(CHECKPOINT).hexdigest()
    for name, sha256 in (("toy", known), ("unverified", None), ("forged", "0" * 64)):
        item = zoo.Official(name, f"{name}.pth", URL, "MIT", "nothing", sha256)
        monkeypatch.setitem(zoo.OFFICIAL, name, item)
    return fetched


@pytest.fixture
def exporter(tmp_path):
    model = identity_model(tmp_path / "source.onnx", 2, metadata='{"scale": 2, "multiple": 1, "architecture": "toy"}')

    def export(checkpoint, output, pooling):
        assert checkpoint.read_bytes() == CHECKPOINT
        shutil.copy(model, output)

    return export


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_pulled_model_is_found_by_its_name_and_says_where_it_comes_from(toy, exporter, tmp_path):
    with pytest.raises(ModelLoadError, match="sr-tile models pull toy"):
        zoo.find("toy")
    path = pull("toy", exporter=exporter)
    assert zoo.find("toy") == zoo.named("toy") == path
    spec = OnnxEngine(path, "cpu").spec
    assert (spec.name, spec.scale) == ("toy", 2)
    assert spec.details == {
        "architecture": "toy",
        "licence": "MIT",
        "source": URL,
        "checkpoint_sha256": hashlib.sha256(CHECKPOINT).hexdigest(),
        "checkpoint_file": "toy.pth",
        "purpose": "nothing",
    }
    assert files(tmp_path / "cache" / "sr-tile") == ["toy.onnx", "toy.pth"]


def test_nothing_is_done_twice(toy, exporter):
    pull("toy", exporter=exporter)
    assert pull("toy", exporter=None).is_file()
    pull("toy", PullOptions(overwrite=True), exporter=exporter)
    assert len(toy) == 1
    checkpoint = zoo.pulled_folder().parent / "checkpoints" / "toy.pth"
    checkpoint.write_bytes(b"damaged")
    pull("toy", PullOptions(overwrite=True), exporter=exporter)
    assert len(toy) == 2


def test_another_pooling_is_another_export(toy, tmp_path):
    asked = []

    def export(checkpoint, output, pooling):
        asked.append(pooling)
        identity_model(output, 1, metadata=f'{{"scale": 1, "multiple": 1, "pooling": "{pooling}"}}')

    for pooling in (None, "global", "local", None, "local", "global"):
        pull("toy", PullOptions(pooling=pooling), exporter=export)
    assert asked == ["global", "local", "global"]
    assert len(toy) == 1  # the checkpoint is the same
    with pytest.raises(ArgumentError, match="median"):
        pull("toy", PullOptions(pooling="median"), exporter=export)


def test_a_checkpoint_that_nobody_vouches_for_needs_a_hash(toy, exporter):
    with pytest.raises(ArgumentError, match="--sha256"):
        pull("unverified", exporter=exporter)
    assert not toy
    with pytest.raises(DownloadError):
        pull("unverified", PullOptions("1" * 64), exporter=exporter)
    known = PullOptions(hashlib.sha256(CHECKPOINT).hexdigest().upper())
    assert pull("unverified", known, exporter=exporter).is_file()


def test_what_cannot_be_pulled_is_said_before_anything_is_fetched(toy, exporter):
    for name, sha256, words in (
        ("x2", None, "bundled"),
        ("nothing", None, "is not known; `sr-tile models list`"),
        ("toy", "12", "64 hexadecimal"),
        ("toy", "0" * 64, "contradicts"),
    ):
        with pytest.raises(ArgumentError, match=words):
            pull(name, PullOptions(sha256), exporter=exporter)
    assert not toy


def test_without_the_exporter_the_checkpoint_is_kept(toy, tmp_path):
    def export(checkpoint, output, pooling):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(ModelError, match=r"needs torch; pip install 'sr-tile\[export\]'"):
        pull("toy", exporter=export)
    assert files(tmp_path / "cache" / "sr-tile") == ["toy.pth"]


@pytest.mark.parametrize("content", [None, b"no model"])
def test_an_export_that_fails_leaves_no_model(toy, tmp_path, content):
    def export(checkpoint, output, pooling):
        if content:
            output.write_bytes(content)

    with pytest.raises(ModelError):
        pull("toy", exporter=export)
    assert files(tmp_path / "cache" / "sr-tile") == ["toy.pth"]
    assert [path.name for path in zoo.pulled_folder().iterdir()] == []


def test_a_forged_checkpoint_is_never_exported(toy, tmp_path):
    with pytest.raises(DownloadError):
        pull("forged", exporter=lambda checkpoint, output, pooling: pytest.fail("exported"))
    assert files(tmp_path / "cache" / "sr-tile") == []


def test_the_table_of_official_models_is_sound():
    for name, item in zoo.OFFICIAL.items():
        assert item.name == name
        assert name == name.lower()
        assert item.url.startswith("https://")
        assert item.file.endswith(".pth") if item.member is None else item.member.endswith(".param")
        assert is_free(item.licence)
        assert item.licence
        assert item.sha256 is None or len(bytes.fromhex(item.sha256)) == 32
    assert len({(item.url, item.member) for item in zoo.OFFICIAL.values()}) == len(zoo.OFFICIAL)
    assert not set(zoo.OFFICIAL) & set(zoo.bundled())
