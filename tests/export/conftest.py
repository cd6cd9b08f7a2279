import pytest
import torch

# Without a torchvision that matches the installed torch, spandrel's import fails on two operators
# that nothing here calls.
_library = torch.library.Library("torchvision", "FRAGMENT")
for _operator in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    try:
        _library.define(_operator)
    except RuntimeError:  # the real torchvision has defined it
        break


@pytest.fixture(autouse=True, scope="session")
def _few_threads():
    torch.set_num_threads(2)
