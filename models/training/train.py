"""Train one of the bundled networks: `python models/training/train.py --task x2 --photos DIR --out DIR`.

Adam, L1 loss, cosine learning rate, gradient clipping and an exponential moving average of the weights, which is what
is measured and shipped. The run continues from `OUT/last.pt` if that exists; SIGTERM ends it with a checkpoint.
`OUT/curve.csv` logs it.
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from data import Patches
from evaluate import set_psnr
from networks import DifferenceConv, Enlarger, FoldedConv, PhotoEnlarger
from restorers import Denoiser, HalvingHead
from torch import Tensor, nn

SCALES = {"x2": 2, "x4": 4, "photo-x2": 2, "photo-x4": 4, "denoise": 1}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--task", choices=sorted(SCALES), required=True)
    parser.add_argument("--photos", type=Path, required=True, help="folder of training photographs")
    parser.add_argument("--validation", type=Path, help="folder of images to measure on, never trained on")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the curve")
    parser.add_argument("--minutes", type=float, default=45, help="training time, turned into steps at the start")
    parser.add_argument("--steps", type=int, help="number of steps, instead of --minutes")
    parser.add_argument(
        "--until", help="HH:MM: plan the steps again and again so that the run ends then (busy machines)"
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument(
        "--block", default="identity", choices=["plain", "identity", "collapsed", "residual", "leaky", "gate"]
    )
    parser.add_argument("--blocks", type=int, nargs="+", default=[2, 3], help="blocks per stage of a denoiser")
    parser.add_argument("--bias", action="store_true", help="biases and free first kernels (flat fields not exact)")
    parser.add_argument("--no-fuse", action="store_true", help="no skip from the first features to the last layer")
    parser.add_argument(
        "--init", type=Path, nargs="+", default=[], help="checkpoints or exported networks to start from"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=40, help="edge length of an input patch")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--mse-from", type=float, default=2.0, help="share of the run after which the loss is log of MSE"
    )
    parser.add_argument("--floor", type=float, default=1e-5, help="squared error that is good enough, for log of MSE")
    parser.add_argument("--luma", type=float, default=0.0, help="weight of the error of luma beside that of RGB")
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=2000, help="steps between measurements and checkpoints")
    return parser.parse_args()


def build_from(config: dict[str, Any]) -> nn.Module:
    """The untrained network of a configuration, as it is kept in every checkpoint."""
    if config["task"] == "denoise":
        return Denoiser(config["width"], tuple(config["blocks"]), config["block"])
    if config["task"].startswith("photo-"):
        scale, blocks = SCALES[config["task"]], tuple(config["blocks"])
        return PhotoEnlarger(scale, config["width"], config["depth"], config["block"], blocks)
    return Enlarger(
        SCALES[config["task"]], config["width"], config["depth"], config["block"], config["bias"], not config["no_fuse"]
    )


def load_fitting(network: nn.Module, path: Path) -> None:
    """Copy the weights whose name and shape fit, into the part of the network where most do.

    A checkpoint holds branches, an ONNX file the kernels they were folded to; a branch takes up the difference then. A
    kernel that has more inputs here does not look at them yet.
    """
    if path.suffix == ".onnx":
        saved = {
            tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            for tensor in onnx.load(path).graph.initializer
        }
    else:
        saved = torch.load(path, map_location="cpu", weights_only=True)["ema"]
    parts: list[nn.Module] = [network, *(getattr(network, name, network) for name in ("restorer", "enlarger"))]
    part = max(parts, key=lambda part: len(fitting_names(part, saved)))
    names, layers = fitting_names(part, saved), dict(part.named_modules())
    own = dict(part.named_parameters())
    for name in names:
        value, layer = saved[name], layers[name.rpartition(".")[0]]
        if value.shape != own[name].shape:
            value = torch.cat([value, torch.zeros_like(own[name])[:, value.shape[1] :]], dim=1)
        if path.suffix == ".onnx" and isinstance(layer, (DifferenceConv, FoldedConv, HalvingHead)):
            value = own[name].detach() + value - layer.folded().detach()
        own[name].data.copy_(value)
    print(f"took {len(names)} of {len(own)} tensors from {path.name}")


def fitting_names(part: nn.Module, saved: dict[str, Tensor]) -> list[str]:
    """Names of trained weights that a file has in the same shape, or for fewer inputs."""
    names = []
    for name, own in part.named_parameters():
        shape = saved[name].shape if name in saved else ()
        wider = len(shape) == 4 and (shape[0], *shape[2:]) == (own.shape[0], *own.shape[2:]) and shape[1] < own.shape[1]
        if own.requires_grad and (shape == own.shape or wider):
            names.append(name)
    return names


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint aside, then rename: a run that is stopped never leaves half a file."""
    aside = path.with_suffix(".tmp")
    torch.save(content, aside)
    aside.replace(path)


def learning_rate(options: argparse.Namespace, step: int, steps: int) -> float:
    """Warm up over 200 steps, then a cosine down to a thousandth."""
    warm = min(1.0, (step + 1) / 200)
    return options.lr * warm * (0.0005 + 0.9995 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def logarithmic(error: Tensor, floor: float) -> Tensor:
    """Mean over the batch of the logarithm of each patch's squared error, as NAFNet's loss (Chen et al., ECCV 2022).

    What is measured is the mean of decibels: a clean patch counts as much as a wrecked one, while their squared errors
    differ a thousandfold.

    Args:
        error: (N, C, H, W), of range about [-1, 1].
        floor: added to the squared errors: patches much better than that count little.
    """
    return 0.02 * torch.log(error.square().mean(dim=(1, 2, 3)) + floor).mean()


class Trainer:
    """One run: network, moving average, optimizer, and the step reached."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        names = (
            "task",
            "width",
            "depth",
            "blocks",
            "block",
            "bias",
            "no_fuse",
            "batch",
            "patch",
            "lr",
            "seed",
            "mse_from",
        )
        self.config = {name: getattr(options, name) for name in names}
        torch.manual_seed(options.seed)
        self.network = build_from(self.config).to(options.device, memory_format=torch.channels_last)
        for path in options.init:
            load_fitting(self.network, path)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.lr, betas=(0.9, 0.99), fused=True)
        self.step, self.steps, self.seconds, self.loss = 0, options.steps or 0, 0.0, 0.0
        if (options.out / "last.pt").exists():
            self.resume(options.out / "last.pt")

    def resume(self, path: Path) -> None:
        """Continue from a checkpoint of the same configuration."""
        saved = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(saved["network"])
        self.average.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.steps = self.options.steps or saved["steps"]
        print(f"continuing at step {self.step} of {self.steps}")

    def train_step(self, inputs: Tensor, targets: Tensor) -> None:
        """One step of gradient descent and of the moving average."""
        options = self.options
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(options, self.step, self.steps or 1000)
        inputs = inputs.to(options.device, memory_format=torch.channels_last)
        with torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
            error = self.network(inputs) - targets.to(options.device)
        self.loss += 0.01 * (error.detach().abs().mean().item() - self.loss)
        if options.luma:
            weights = torch.tensor((0.257, 0.504, 0.098), device=error.device).view(1, 3, 1, 1)
            error = torch.cat([error, options.luma * 3 * (error * weights).sum(dim=1, keepdim=True)], dim=1)
        squared = self.steps and self.step >= options.mse_from * self.steps
        loss = logarithmic(error, options.floor) if squared else error.abs().mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self.optimizer.step()
        decay = min(options.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        self.step += 1

    def checkpoint(self) -> None:
        """Measure, log, and write `ema.pt` and `last.pt`."""
        options = self.options
        scale = SCALES[options.task]
        figures = set_psnr(self.average, options.validation, options.task, scale) if options.validation else []
        psnr = sum(figures) / len(figures) if figures else math.nan
        rate = self.optimizer.param_groups[0]["lr"]
        row = [
            self.step,
            round(self.seconds, 1),
            f"{rate:.3g}",
            f"{self.loss:.6f}",
            f"{psnr:.4f}",
            *(f"{x:.2f}" for x in figures),
        ]
        with (options.out / "curve.csv").open("a", newline="") as file:
            csv.writer(file).writerow(row)
        print(*row, flush=True)
        shared = {"config": self.config, "step": self.step, "psnr": psnr}
        save(options.out / "ema.pt", {"ema": self.average.state_dict(), **shared})
        save(
            options.out / "last.pt",
            {
                "network": self.network.state_dict(),
                "ema": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "steps": self.steps,
                "seconds": self.seconds,
                **shared,
            },
        )


def seconds_until(clock: str) -> float:
    """Seconds from now to the next HH:MM, or 0 where that was in the last twelve hours."""
    now = time.localtime()
    hours, minutes = (int(part) for part in clock.split(":"))
    left = (hours - now.tm_hour) * 3600 + (minutes - now.tm_min) * 60 - now.tm_sec
    return max(0, (left + 43200) % 86400 - 43200)


def main() -> None:
    """Train until the planned number of steps."""
    options = parse_arguments()
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    options.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(options)
    patches = Patches(options.photos, options.task, SCALES[options.task], options.patch, options.seed)
    rng = np.random.default_rng([options.seed, trainer.step])
    first, times, stop = trainer.step, [], threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.is_set() and (not trainer.steps or trainer.step < trainer.steps):
        started = time.perf_counter()
        trainer.train_step(*patches.batch(options.batch, rng))
        times.append(time.perf_counter() - started)
        trainer.seconds += times[-1]
        if not trainer.steps and trainer.step == 250:
            typical = float(np.median(times))  # the median: other programs on the machine must not shorten the run
            trainer.steps = int(options.minutes * 60 / typical)
            print(f"{trainer.steps} steps of {typical * 1000:.1f} ms", flush=True)
        if options.until and trainer.step % 20 == 0 and len(times) >= 60:
            trainer.steps = trainer.step + int(seconds_until(options.until) / np.mean(times[-300:]))
        if trainer.step % options.every == 0 and trainer.step < trainer.steps:
            trainer.checkpoint()
    if trainer.step > first:
        trainer.checkpoint()


if __name__ == "__main__":
    main()
