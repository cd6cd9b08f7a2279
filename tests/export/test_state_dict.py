"""Weights are read, and nothing else in a file is ever run."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sr_tile.errors import ModelLoadError
from sr_tile.export.state_dict import load_state, readings

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("wrap", [None, "params", "params_ema", "ema", "state_dict"])
def test_kinds_and_wrappers(tmp_path, suffix, wrap):
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS if wrap is None else {wrap: WEIGHTS, "epoch": 3}, path)
    state = load_state(path)
    assert list(state) == ["a.weight", "b"]
    assert all(value.dtype == np.float32 for value in state.values())
    np.testing.assert_array_equal(state["a.weight"], np.arange(6).reshape(2, 3))


def test_averaged_weights_come_first(tmp_path):
    torch.save({"params": {"a": torch.zeros(1)}, "params_ema": {"a": torch.ones(1)}}, tmp_path / "w.pth")
    assert load_state(tmp_path / "w.pth")["a"][0] == 1


def test_prefix_of_data_parallel_is_dropped(tmp_path):
    torch.save({"module.a": torch.ones(1)}, tmp_path / "w.pth")
    assert list(load_state(tmp_path / "w.pth")) == ["a"]


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_malicious_pickle_runs_nothing(tmp_path, how):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    if how == "torch":
        torch.save({"a": Malicious(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"a": Malicious(trace)}))
    with pytest.raises(ModelLoadError, match="refused") as caught:
        load_state(path)
    assert not trace.exists()
    assert "\n" not in str(caught.value)


def test_broken_files_are_refused_in_one_line(tmp_path):
    torch.save(WEIGHTS, tmp_path / "whole.pth")
    save_file(WEIGHTS, tmp_path / "whole.safetensors")
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)))
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("whole.pth", "whole.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut-{name}").write_bytes(content[: len(content) // 2])
    (tmp_path / "huge.safetensors").write_bytes(
        (header := b'{"a":{"dtype":"F32","shape":[2500000000],"data_offsets":[0,10000000000]}}')
        and len(header).to_bytes(8, "little") + header
    )
    for name in ("noise.pth", "empty.pth", "cut-whole.pth", "cut-whole.safetensors", "huge.safetensors", "none.pth"):
        with pytest.raises(ModelLoadError) as caught:
            load_state(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_claims_beyond_the_file_are_refused(tmp_path):
    one, many = torch.zeros(1), torch.zeros(2**20, dtype=torch.float16)
    for views, claimed in (
        ({"a": one.expand(50_000, 50_000)}, 2_500_000_000),
        ({"a": one.expand(10**4, 10**4, 10**4)}, 10**12),
        ({f"a{number}": one.expand(2**20) for number in range(2**7)}, 2**20),
        ({f"a{number}": many for number in range(2**7)}, 2**20),
        ({"a": many.as_strided((2**10, 2**19), (1, 1))}, 2**29),
    ):
        torch.save(views, tmp_path / "views.pth")
        with pytest.raises(ModelLoadError, match=f"claims {claimed} values"):
            load_state(tmp_path / "views.pth")
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in plain.namelist():
            bomb.writestr(entry, plain.read(entry))
    with pytest.raises(ModelLoadError, match="claim to unpack"):
        load_state(tmp_path / "bomb.pth")


def test_weights_that_are_views_are_what_they_say(tmp_path):
    base = torch.arange(12.0, dtype=torch.float16)
    views = {
        "one value": torch.full((1,), 0.25).expand(16, 3, 3, 3),
        "rows": torch.arange(3.0)[None].expand(4, 3),
        "turned": base.reshape(3, 4).T,
        "overlapping": base.as_strided((5, 4), (2, 1)),
        "tied": base,
        "tied again": base,
        "part": base[3:5],
    }
    torch.save(views, tmp_path / "views.pth")
    state = load_state(tmp_path / "views.pth")
    assert state.keys() == views.keys()
    for name, array in state.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, np.array(views[name].tolist(), np.float32))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "not a state dict"),
        ({"a": 3}, "holds no weights, only a"),
        ({"a": torch.tensor([np.nan])}, "no numbers"),
    ],
)
def test_what_is_no_state_dict(tmp_path, content, reason):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match=reason):
        load_state(tmp_path / "w.pth")


KINDS = {
    "quantised": (
        lambda: torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8),
        "quantized|Torch checkpoint",
    ),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested|Torch checkpoint"),
    "without data": (lambda: torch.ones(2, 2, device="meta"), "meta"),
    "packed": (lambda: torch.ones(2, 2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), "float4"),
    "complex": (lambda: torch.ones(2, 2, dtype=torch.complex64), "complex64"),
    "conjugated": (lambda: torch.ones(2, 2, dtype=torch.complex64).conj(), "complex64"),
    "sparse": (lambda: torch.ones(2, 2).to_sparse(), "is sparse"),
    "compressed": (lambda: torch.ones(2, 2).to_sparse_csr(), "is sparse"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_what_no_float_can_hold_is_refused_in_one_line(tmp_path, kind):
    make, reason = KINDS[kind]
    torch.save({"a": torch.ones(3), "b": make()}, tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match=reason) as caught:
        load_state(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


def test_every_kind_of_plain_number_is_read_as_float32(tmp_path):
    names = ("bool", "uint8", "int8", "int64", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2fnuz")
    state = {name: torch.tensor([1.0, 0.0]).to(getattr(torch, name)) for name in names}
    torch.save({**state, "negated": torch._neg_view(torch.tensor([-1.0, 0.0]))}, tmp_path / "w.pth")
    loaded = load_state(tmp_path / "w.pth")
    assert loaded.keys() == {*names, "negated"}
    for value in loaded.values():
        assert value.dtype == np.float32
        assert value.tolist() == [1.0, 0.0]


def test_suffix(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"x")
    with pytest.raises(ModelLoadError, match="not supported"):
        load_state(tmp_path / "w.bin")


def _before(prefix):
    return {prefix + name: value for name, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    "content",
    [
        {**WEIGHTS, "step": 100},
        _before("_orig_mod."),
        {"params_ema": _before("module._orig_mod.")},
        {"params_ema": _before("module.") | {"n_averaged": torch.tensor(5)}},
        {"state_dict": WEIGHTS, "best_psnr": np.float64(31.2), "epoch": np.int64(3)},
        {"whatever": {"model": WEIGHTS}},
        {"ema": {"decay": 0.9, "num_updates": 3, "shadow_params": list(WEIGHTS.values())}, "model": WEIGHTS},
        {"ema": {"decay": 0.9, "shadow": WEIGHTS}},
        {"g": {"a": torch.ones(1)}, "d": {"a": torch.ones(2)}, "g_ema": WEIGHTS},
        {"netG_state_dict": WEIGHTS, "opt": {"lr": 1e-4}},
        {"models": [WEIGHTS]},
        *(
            {key: WEIGHTS, "epoch": 1}
            for key in ("model", "net", "params-ema", "model_state_dict", "generator", "ema_model")
        ),
    ],
)
def test_the_usual_wrappers_prefixes_and_companions_are_taken_off(tmp_path, content):
    torch.save(content, tmp_path / "m.pth")
    state = load_state(tmp_path / "m.pth")
    assert list(state) == list(WEIGHTS)
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(state[name], value)


@pytest.mark.parametrize("member", ["model.", "net_g."])
def test_a_member_of_a_training_program_is_one_reading(tmp_path, member):
    torch.save({"state_dict": _before(member) | {"loss.w": torch.ones(3)}, "epoch": 3}, tmp_path / "m.ckpt")
    plain, inner = readings(load_state(tmp_path / "m.ckpt"))
    assert "loss.w" in plain
    assert list(inner) == list(WEIGHTS)


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    content = {"a": torch.ones(3)}
    content["params"] = content
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelLoadError, match="holds itself"):
        load_state(tmp_path / "w.pth")


def test_a_compiled_member_is_read_too(tmp_path):
    torch.save({"state_dict": _before("model._orig_mod.") | {"loss.w": torch.ones(3)}}, tmp_path / "m.ckpt")
    assert list(list(readings(load_state(tmp_path / "m.ckpt")))[1]) == list(WEIGHTS)


@pytest.mark.parametrize(
    ("name", "reason"), [("junk.txt", "data.pkl"), ("a/data.pkl", "not a complete Torch checkpoint")]
)
def test_an_archive_of_something_else_is_said_in_our_words(tmp_path, name, reason):
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        archive.writestr(name, b"junk")
    with pytest.raises(ModelLoadError, match=reason) as raised:
        load_state(tmp_path / "m.pth")
    assert "improved" not in str(raised.value)


@pytest.mark.parametrize("content", [b"1234567", b"<html></html>", b"\x80\x02"])
def test_a_few_bytes_are_no_checkpoint_and_no_attack(tmp_path, content):
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"no Torch checkpoint|not a complete") as raised:
        load_state(tmp_path / "m.pth")
    assert "code" not in str(raised.value)


def test_torchscript_is_called_by_its_name(tmp_path):
    torch.jit.trace(torch.nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)).save(str(tmp_path / "m.pt"))
    with pytest.raises(ModelLoadError, match="TorchScript"):
        load_state(tmp_path / "m.pt")
