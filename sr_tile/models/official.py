"""Checkpoints that their authors publish: where they are, what they are, how to know them again.

Hashes, sizes and licences: OpenModelDB and the projects' own release pages; those of archives agree in two places.
"""

from dataclasses import dataclass

_KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0/{}.pth"
_NAFNET = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
_REALESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download/{}/{}"
_SPAN = "https://objectstorage.us-phoenix-1.oraclecloud.com/n/ax6ygfvpvzka/b/open-modeldb-files/o/{}"
_NCNN = "https://github.com/nihui/{0}/releases/download/20220728/{0}-20220728-windows.zip"


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
        scale: output pixels per input pixel.
        member: of an archive: how the path of the network's `.param` ends; None where it holds just one.
    """

    name: str
    file: str
    url: str
    licence: str
    task: str
    sha256: str | None = None
    size: int | None = None
    scale: int | None = 1
    member: str | None = None


def _scunet(kind: str, task: str, sha256: str | None = None) -> Official:
    file = f"scunet_{kind}"
    name = file.replace("_", "-")
    return Official(name, f"{file}.pth", _KAIR.format(file), "Apache-2.0", task, sha256)


def _nafnet(kind: str, drive: str, task: str, sha256: str) -> Official:
    return Official(f"nafnet-{kind.lower()}", f"NAFNet-{kind}.pth", _NAFNET.format(drive), "MIT", task, sha256)


def _realesrgan(file: str, release: str, task: str, sha256: str, size: int) -> Official:
    name = file.removesuffix(".pth").removesuffix("_6B").replace("_", "-").lower()
    scale = 2 if "x2" in name else 4
    return Official(name, file, _REALESRGAN.format(release, file), "BSD-3-Clause", task, sha256, size, scale)


def _span(scale: int, sha256: str, size: int) -> Official:
    file = f"{scale}x-spanx{scale}-ch48.pth"
    task = "enlarging clean photographs, fast"
    return Official(f"span-x{scale}", file, _SPAN.format(file), "Apache-2.0", task, sha256, size, scale)


def _realcugan(scale: int, kind: str) -> Official:
    task = {"conservative": "cautious", "no-denoise": "leaves noise"}.get(
        kind, f"removes noise, strength {kind[-2:-1]}"
    )
    return Official(
        f"realcugan-x{scale}-{kind}",
        "realcugan-ncnn-vulkan-20220728-windows.zip",
        _NCNN.format("realcugan-ncnn-vulkan"),
        "MIT",
        f"enlarging drawings, {task}",
        "c6e08d46c11704b1e3a1ada9ddd591cb5005f52f132136c8633ba25def400e01",
        scale=scale,
        member=f"models-se/up{scale}x-{kind}.param",
    )


def _waifu2x(kind: str, scale: int, noise: int | None) -> Official:
    folder = {"cunet": "cunet", "art": "upconv_7_anime_style_art_rgb", "photo": "upconv_7_photo"}[kind]
    task = ["denoising", "enlarging"][scale - 1] + (" photographs" if kind == "photo" else " drawings")
    parts = [*([f"noise{noise}"] if noise is not None else []), *(["scale2.0x"] if scale == 2 else []), "model"]
    return Official(
        "-".join(["waifu2x", kind, *([f"x{scale}"] if scale > 1 else []), *parts[: noise is not None]]),
        "waifu2x-ncnn-vulkan-20220728-windows.zip",
        _NCNN.format("waifu2x-ncnn-vulkan"),
        "MIT",
        task if noise is None else f"{task}, noise level {noise}",
        "3f60ba0b26763c602cb75178c2051bf0c46f3cc9d13975a052a902773988a34b",
        scale=scale,
        member=f"models-{folder}/{'_'.join(parts)}.param",
    )


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
    _realesrgan(
        "RealESRGAN_x4plus.pth",
        "v0.1.0",
        "enlarging damaged photographs, invents detail",
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        67_040_989,
    ),
    _realesrgan(
        "RealESRGAN_x2plus.pth",
        "v0.2.1",
        "enlarging damaged photographs, invents detail",
        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        67_061_725,
    ),
    _realesrgan(
        "RealESRGAN_x4plus_anime_6B.pth",
        "v0.2.2.4",
        "enlarging drawings",
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        17_938_799,
    ),
    _realesrgan(
        "realesr-general-x4v3.pth",
        "v0.2.5.0",
        "enlarging anything, small, keeps noise",
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        4_885_111,
    ),
    _realesrgan(
        "realesr-general-wdn-x4v3.pth",
        "v0.2.5.0",
        "enlarging anything, small, removes noise",
        "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        4_885_111,
    ),
    _realesrgan(
        "realesr-animevideov3.pth",
        "v0.2.5.0",
        "enlarging drawn films, small",
        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        2_504_012,
    ),
    _span(2, "0b20caeea7af5507ec3bdc63ff5a141a28506279d2cfec909c417ecb308d3f93", 8_942_586),
    _span(4, "c79e716b8eb24182c1d7fcc74fa10ae074bdb34fee7c6e67c73053ff5498c667", 9_004_922),
    *(_realcugan(scale, kind) for scale in (2, 3, 4) for kind in ("conservative", "no-denoise", "denoise3x")),
    *(_realcugan(2, kind) for kind in ("denoise1x", "denoise2x")),
    *(_waifu2x("cunet", 1, noise) for noise in range(4)),
    *(_waifu2x(kind, 2, noise) for kind in ("cunet", "art", "photo") for noise in (None, 0, 1, 2, 3)),
)

OFFICIAL = {item.name: item for item in _ALL}
