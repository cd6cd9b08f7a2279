import json
import math

import numpy as np
import pytest
from support.toys import ToyEngine, noise_image

from sr_tile.engines import precision
from sr_tile.engines.base import Engine
from sr_tile.engines.precision import (
    AdaptiveEngine,
    Agreement,
    Candidate,
    agreement,
    agrees,
    built_in_pictures,
    pieces_of,
)
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, DeviceError
from sr_tile.models.spec import ModelSpec
from sr_tile.system.cache import cache_folder, recall, remember

SPEC = ModelSpec("toy", scale=1, multiple=1, halo=0, tile=64)


class OffEngine(ToyEngine):
    """The identity, but for an error that grows with the brightness."""

    def __init__(self, error=0.0, name="fewer", spec=SPEC):
        super().__init__(spec)
        self.error, self.precision, self.identity, self.device = error, name, f"{name}-{error}", f"toy {name}"
        self.closed = False

    def answer(self, batch_nchw):
        return super().answer(batch_nchw) * np.float32(1 + self.error)

    def close(self):
        self.closed = True


def adaptive(*engines, bound=55.0):
    return AdaptiveEngine(ToyEngine(SPEC), [Candidate(one.precision, lambda one=one: one) for one in engines], bound)


def whole(value):
    return np.full((1, 1, 10, 100), value, np.float32)


def test_agreement_is_that_of_the_definition():
    pixels = np.random.default_rng(0).random((1, 3, 20, 20), np.float32) * 0.5
    assert agreement([pixels], [pixels], (0.0, 1.0)) == Agreement(math.inf, 1.0)
    assert agreement([pixels + np.float32(0.01)], [pixels], (0.0, 1.0)).psnr == pytest.approx(40, abs=1e-3)
    assert agreement([pixels * 255 + np.float32(2.55)], [pixels * 255], (0.0, 255.0)).psnr == pytest.approx(
        40, abs=1e-3
    )
    off = whole(0.5)
    off[0, 0, 0, :3] += 2 / 255
    assert agreement([off], [whole(0.5)], (0.0, 1.0)).within == pytest.approx(0.997)
    off = np.minimum(off, 128.4 / 255)  # one step at most
    assert agreement([off], [whole(0.5)], (0.0, 1.0)).within == 1.0


def test_what_is_outside_of_the_range_is_not_seen():
    assert agreement([whole(1.5)], [whole(2.5)], (0.0, 1.0)).psnr == math.inf


def test_the_worst_picture_counts():
    both = agreement([whole(0.5), whole(0.51)], [whole(0.5), whole(0.5)], (0.0, 1.0))
    assert both.psnr == pytest.approx(40, abs=1e-3)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_keeps_no_bound(wrong):
    assert not agreement([whole(wrong)], [whole(0.5)], (0.0, 1.0)).keeps(1.0)
    assert not agreement([whole(0.5)], [whole(wrong)], (0.0, 1.0)).keeps(1.0)


@pytest.mark.parametrize(("psnr", "within", "kept"), [(55.0, 0.999, True), (54.9, 1.0, False), (90.0, 0.9989, False)])
def test_both_figures_must_hold(psnr, within, kept):
    assert Agreement(psnr, within).keeps(55.0) is kept


def test_it_is_an_engine_and_settles_when_first_asked():
    engine = adaptive(OffEngine(1e-4))
    assert isinstance(engine, Engine)
    assert (engine.precision, engine.bound) == ("fp32", 55.0)
    engine.run(np.zeros((1, 3, 8, 8), np.float32))
    assert engine.precision == "fewer"
    assert "toy fewer" in engine.why
    assert "dB from float32" in engine.why


def test_the_first_that_keeps_the_bound_is_taken_however_good_the_next():
    coarse, good, better = OffEngine(0.1, "coarse"), OffEngine(1e-4, "good"), OffEngine(0.0, "better")
    engine = adaptive(coarse, good, better)
    batch = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    assert np.array_equal(engine.run(batch), good.answer(batch))
    assert np.array_equal(engine.run_exact(batch), batch)
    assert coarse.closed
    assert not better.shapes
    engine.close()
    assert good.closed


def test_where_none_keeps_it_float32_is_all_there_is():
    def refuse():
        raise DeviceError("no such unit")

    engine = AdaptiveEngine(
        ToyEngine(SPEC), [Candidate("gone", refuse), Candidate("coarse", lambda: OffEngine(0.1, "coarse"))]
    )
    batch = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    assert np.array_equal(engine.run(batch), batch)
    assert (engine.precision, engine.bound) == ("fp32", None)
    assert "no such unit" in engine.why
    assert "coarse is" in engine.why


def test_what_was_measured_is_remembered_and_decides_the_same():
    answers = []
    for _ in range(2):
        fewer = OffEngine(1e-3)
        engine = adaptive(fewer, bound=50.0)
        answers.append((engine.run(np.zeros((1, 3, 8, 8), np.float32)), engine.precision, engine.why, engine.identity))
        measured = len(fewer.shapes) - 1
        answers[-1] += (measured > 0,)
    assert [answer[4] for answer in answers] == [True, False]
    assert answers[0][1:4] == answers[1][1:4]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"psnr": "good", "within": 1}'])
def test_a_damaged_memory_is_measured_anew(text):
    batch = np.zeros((1, 3, 8, 8), np.float32)
    adaptive(OffEngine(1e-4)).run(batch)
    (path,) = cache_folder("precision").iterdir()
    remember(path, text)
    engine = adaptive(OffEngine(1e-4))
    engine.run(batch)
    assert engine.precision == "fewer"
    assert recall(path, json.loads)["within"] == 1.0


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_bound_that_is_none_is_refused(bound):
    with pytest.raises(ArgumentError, match="agreement"):
        adaptive(bound=bound)


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        ModelSpec("gray", scale=2, channels=1, multiple=48, value_range=(-1.0, 255.0)),
    ],
)
def test_built_in_pictures_suit_the_model(spec):
    for one, two in zip(built_in_pictures(spec), built_in_pictures(spec), strict=True):
        assert one.dtype == np.float32
        assert np.array_equal(one, two)
        assert one.shape[1] == spec.channels
        assert one.shape[2] % spec.multiple == one.shape[3] % spec.multiple == 0
        low, high = spec.value_range
        assert low <= one.min() < one.max() <= high


def test_a_picture_is_judged_by_its_own_pieces():
    dark, bright = (np.full((3, 128, 128), value, np.float32) for value in (0.1, 0.9))
    engine = worse_than_the_built_in_pictures_show(3e-3, bound=60.0)
    assert agrees(engine, [dark])
    assert not agrees(engine, [dark, bright])
    assert not agrees(engine, [np.full((3, 4, 4), np.nan, np.float32)])


@pytest.mark.parametrize("multiple", [1, 48])
@pytest.mark.parametrize("width", [100, 600, 601])
def test_pieces_lie_where_they_do_whatever_the_tiles(multiple, width):
    spec = ModelSpec("toy", multiple=multiple)
    rows = noise_image(1000, width)
    found = [pieces_of(spec, rows[:tile]) for tile in (256, 512, 1000)]
    for pieces in found:
        assert all(np.array_equal(one, two) for one, two in zip(pieces, found[0], strict=True))
        assert all(side % multiple == 0 and side > 0 for piece in pieces for side in piece.shape[:2])
    small = pieces_of(spec, rows[:100])
    assert small[0].shape[0] == 100 // multiple * multiple


def worse_than_the_built_in_pictures_show(error, bound):
    fewer = OffEngine(0.0)
    engine = adaptive(fewer, bound=bound)
    engine.run(np.zeros((1, 3, 8, 8), np.float32))
    fewer.error = error
    return engine


class TestImages:
    """Which image gets which precision."""

    @pytest.fixture(autouse=True)
    def _every_size(self, monkeypatch):
        monkeypatch.setattr("sr_tile.pipeline.tile_stage.LEAST_PIXELS", 5000)

    def images(self):
        dark = (noise_image(70, 90) // 8).astype(np.uint8)
        return {
            "dark": dark,
            "bright": noise_image(70, 90, seed=1),
            "small": dark[:30],
            "16 bits": (dark.astype(np.uint16) * 257),
            "float": dark.astype(np.float32) / 255,
            "alpha": np.concatenate([dark, 255 - dark[..., :1]], axis=2),
        }

    def enhancer(self, error=0.025):
        return Enhancer(worse_than_the_built_in_pictures_show(error, 50.0))  # what is bright does not keep it

    def test_only_8_bits_that_bear_it_take_fewer(self):
        enhancer = self.enhancer()
        for name, image in self.images().items():
            enhancer.reset_stats()
            result = enhancer.enhance(image)
            fewer = name in ("dark", "alpha")
            assert enhancer.stats.exact_images == (not fewer), name
            assert np.array_equal(result, image) != fewer, name
            assert enhancer.stats.precision == "fewer"

    def test_an_image_is_the_same_alone_and_in_a_list(self):
        images = list(self.images().values())
        together = self.enhancer().enhance_batch(images * 2)
        alone = [self.enhancer().enhance(image) for image in images] * 2
        for one, two in zip(together, alone, strict=True):
            assert np.array_equal(one, two)

    def test_a_job_that_may_go_on_elsewhere_is_exact(self, tmp_path):
        from PIL import Image

        from sr_tile.jobs.job_folder import describe
        from sr_tile.jobs.resumable import ResumableJob
        from sr_tile.jobs.selection import FilePair

        image = self.images()["dark"]
        Image.fromarray(image).save(tmp_path / "in.png")
        with ResumableJob(tmp_path / "job", describe("clean-x2", None)) as job:
            list(job.run(self.enhancer(), [FilePair(str(tmp_path / "in.png"), str(tmp_path / "out.png"))]))
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), image)

    def test_the_server_decides_as_a_command_does(self):
        from sr_tile.pipeline.pipeline import Pipeline
        from sr_tile.serving.shared_engine import SharedEngine

        enhancer = self.enhancer()
        with SharedEngine(enhancer.engine, enhancer.plan) as shared, shared.client() as client:
            served = Enhancer(client, settings=None)
            assert isinstance(served._pipeline, Pipeline)
            served.use_plan(enhancer.plan)
            for image in self.images().values():
                assert np.array_equal(served.enhance(image), self.enhancer().enhance(image))


def test_the_cli_knows_the_bound():
    from sr_tile.cli import options

    assert options.LEAST_AGREEMENT == precision.LEAST_PSNR
