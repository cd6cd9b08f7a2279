"""Results that are softened, grained or averaged over turns, against naive loops."""

import numpy as np
import pytest
from support.toys import BoxBlurEngine, ToyEngine, noise_image

from sr_tile.engines.strength_grain_tta import Adjustment
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError
from sr_tile.models.spec import ModelSpec
from sr_tile.planner import Settings
from sr_tile.tiling.channels import enlarge_bicubic


class Slanted(ToyEngine):
    """Looks to the right and below, so that every turn has another result; in float32 as well."""

    def answer(self, batch_nchw):
        padded = np.pad(batch_nchw, ((0, 0), (0, 0), (0, 1), (0, 2)), mode="edge")
        return super().answer(padded[:, :, 1:, 2:] * 0.5 + padded[:, :, :-1, :-2] * 0.5)

    def run_exact(self, batch_nchw):
        return self.run(batch_nchw)


def unit(image):
    return image.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255)


def enhance(engine, image, tiles=None, **adjustment):
    settings = Settings(tile=tiles, overlap=8) if tiles else None
    with Enhancer(engine, settings=settings, adjustment=Adjustment(**adjustment)) as enhancer:
        return enhancer.enhance(image)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("exact", [False, True])
def test_tta_is_the_mean_over_all_eight_turns(scale, exact):
    engine = Slanted(ModelSpec("toy", scale, multiple=1, halo=2))
    batch = np.random.default_rng(0).random((2, 3, 16, 24), np.float32)
    expected = np.zeros((2, 3, 16 * scale, 24 * scale))
    for mirror in (False, True):
        for turns in range(4):
            turned = np.rot90(batch[..., ::-1] if mirror else batch, turns, axes=(2, 3))
            back = np.rot90(engine.answer(np.ascontiguousarray(turned)), -turns, axes=(2, 3))
            expected += (back[..., ::-1] if mirror else back) / 8
    adjusted = Adjustment(tta=True).of(engine)
    found = adjusted.run_exact(batch) if exact else adjusted.run(batch)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_strength_blends_with_the_bicubic_enlargement(scale):
    image = noise_image(40, 50)
    full = enhance(ToyEngine(ModelSpec("toy", scale, multiple=1)), image).astype(float)
    plain = enlarge_bicubic(unit(image)[0], scale).transpose(1, 2, 0) * 255
    for strength in (0.0, 0.3, 1.0):
        found = enhance(ToyEngine(ModelSpec("toy", scale, multiple=1)), image, strength=strength)
        np.testing.assert_allclose(found, np.clip(strength * full + (1 - strength) * plain, 0, 255), atol=1)


def test_kept_grain_is_the_lost_luma_and_no_colour():
    image = noise_image(30, 40)
    blurred = BoxBlurEngine(1).answer(unit(image))[0].transpose(1, 2, 0) * 255
    lost = (image - blurred) @ (0.299, 0.587, 0.114)
    found = enhance(BoxBlurEngine(1, spec=ModelSpec("toy", 1, multiple=1)), image, keep_grain=0.5)
    np.testing.assert_allclose(found, np.clip(blurred + 0.5 * lost[..., None], 0, 255), atol=1)


@pytest.mark.parametrize("adjustment", [{"strength": 0.4}, {"tta": True}, {"keep_grain": 0.7}])
def test_tiles_do_not_show(adjustment):
    image = noise_image(90, 120)
    spec = ModelSpec("toy", 1, multiple=1, halo=2)
    tiled, whole = (enhance(BoxBlurEngine(2, spec=spec), image, tiles, **adjustment) for tiles in (32, 128))
    np.testing.assert_allclose(tiled.astype(int), whole, atol=1)


def test_nothing_to_adjust_is_the_engine_itself_and_others_have_other_caches():
    engine = ToyEngine()
    assert Adjustment().of(engine) is engine
    assert len({Adjustment(strength=s).of(engine).identity for s in (0.1, 0.2)} | {engine.identity}) == 3


def test_what_cannot_be_is_one_line():
    for wrong in ({"strength": -0.1}, {"strength": 1.5}, {"keep_grain": 2.0}):
        with pytest.raises(ArgumentError, match="from 0 to 1"):
            Adjustment(**wrong)
    with pytest.raises(ArgumentError, match="do not enlarge"):
        Adjustment(keep_grain=0.5).of(ToyEngine(ModelSpec("toy", 2)))
    with pytest.raises(ArgumentError, match="not square"):
        Adjustment(tta=True).of(ToyEngine(ModelSpec("toy", 2, fixed_tile=(8, 16))))
