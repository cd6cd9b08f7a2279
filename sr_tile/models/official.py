"""Checkpoints that the authors of SCUNet and NAFNet publish: where they are, what they are, how to know them again."""

from dataclasses import dataclass

_SCUNET = "https://github.com/cszn/KAIR/releases/download/v1.0/{}.pth"
_NAFNET = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"


@dataclass(frozen=True)
class Official:
    """A checkpoint.

    Attributes:
        name: how `--model` and `sr-tile models` call it.
        file: its name as published.
        url: where it is published.
        licence: of the weights.
        task: what it was trained for.
        sha256: of the file; None where no trustworthy hash is known, so that the user has to bring one.
        size: bytes, None where not known.
    """

    name: str
    file: str
    url: str
    licence: str
    task: str
    sha256: str | None = None
    size: int | None = None


def _scunet(kind: str, task: str, sha256: str | None = None) -> Official:
    file = f"scunet_{kind}"
    name = file.replace("_", "-")
    return Official(name, f"{file}.pth", _SCUNET.format(file), "Apache-2.0", task, sha256)


def _nafnet(kind: str, drive: str, task: str, sha256: str) -> Official:
    return Official(f"nafnet-{kind.lower()}", f"NAFNet-{kind}.pth", _NAFNET.format(drive), "MIT", task, sha256)


_REAL = "denoising of real photographs"
_ALL = (
    _scunet(
        "color_real_psnr",
        f"{_REAL}, faithful",
        "fa78899ba2caec9d235a900e91d96c689da71c42029230c2028b00f09f809c2e",
    ),
    _scunet(
        "color_real_gan",
        f"{_REAL}, crisp",
        "892c83f812c59173273b74f4f34a14ecaf57a2fdb68df056664589beb55c966e",
    ),
    *(
        _scunet(f"{mode}_{sigma}", f"Gaussian noise of {sigma}/255")
        for mode in ("color", "gray")
        for sigma in (15, 25, 50)
    ),
    _nafnet(
        "SIDD-width32",
        "1lsByk21Xw-6aW7epCwOQxvm6HYCQZPHZ",
        "denoising of smartphone photographs",
        "89c70e808d1783b6c07911306e106aaf0d4f7f3da8c61078b99ff7f8929a26f4",
    ),
    _nafnet(
        "SIDD-width64",
        "14Fht1QQJ2gMlk4N1ERCRuElg8JfjrWWR",
        "denoising of smartphone photographs",
        "cd685efaae01f7c4e9951f2deab05780079c8eb1e49ed664b72f6db04dabb445",
    ),
    _nafnet(
        "GoPro-width32",
        "1Fr2QadtDCEXg6iwWX8OzeZLbHOx2t5Bj",
        "deblurring",
        "19394e6155d12ef6371d1d57496f87f0ec88f92bdffa27c0792690722d5d1a5c",
    ),
    _nafnet(
        "GoPro-width64",
        "1S0PVRbyTakYY9a82kujgZLbMihfNBLfC",
        "deblurring",
        "329d3ab4077b8d6b7ff61de376e483714667960bf85be027bf4335cda701196f",
    ),
    _nafnet(
        "REDS-width64",
        "14D4V4raNYIOhETfcuuLI3bGLB-OYIv6X",
        "deblurring of compressed video",
        "175fe8b3cdf3abedfbc87769779c3d9f491e05bb2e73ea9d627883f90a4b2df3",
    ),
)

OFFICIAL = {item.name: item for item in _ALL}
