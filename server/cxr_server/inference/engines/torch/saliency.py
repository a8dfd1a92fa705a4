"""Saliency: explanation methods of pytorch-grad-cam, applied to the rectified feature map."""

import threading
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxr_server.inference.engines.torch.network import EvidenceNet

METHODS = {
    "GRAD_CAM_PLUS_PLUS": "GradCAMPlusPlus",
    "LAYER_CAM": "LayerCAM",
    "EIGEN_CAM": "EigenCAM",
    "SCORE_CAM": "ScoreCAM",
}
"""Method name -> class of pytorch-grad-cam."""


class Saliency:
    """Computes maps with pytorch-grad-cam, one at a time, because it hooks into the network.

    The package is imported for the first map, because importing it takes seconds.
    """

    def __init__(self, net: EvidenceNet, bias_k: Iterable[float], device: str) -> None:
        """Extend the network.

        Args:
            net: The network, in float32, on `device`. It may run elsewhere at the same time.
            bias_k: Added to the mean evidence of each finding to give its logit.
            device: The torch device of the network.
        """
        self.methods = tuple(METHODS) if find_spec("pytorch_grad_cam") else ()
        bias = torch.tensor(tuple(bias_k))
        self._class_count = len(bias)
        self._net = _LogitNet(net, bias).eval().to(device)
        self._device = device
        self._lock = threading.Lock()

    def map(self, image_chw: NDArray[np.float32], row: int, method: str) -> NDArray[np.float32]:
        """Return the map [H, W] of one finding, normalised to [0, 1] by pytorch-grad-cam.

        Raises:
            ValueError: The method or the row does not exist.
        """
        if method not in self.methods or not 0 <= row < self._class_count:
            raise ValueError("there is no such saliency method or finding")
        with self._lock:
            image = torch.from_numpy(np.ascontiguousarray(image_chw[None])).to(self._device)
            with _method_class(method)(self._net, [self._net.rectifier]) as cam:
                maps = cam(input_tensor=image, targets=[lambda logits: logits[row]])
            return np.asarray(np.nan_to_num(maps[0]), np.float32)


class _LogitNet(nn.Module):
    """The network up to its logits, with a ReLU of its own to hook. Gradients stop there."""

    def __init__(self, net: EvidenceNet, bias_k: Tensor) -> None:
        super().__init__()
        self.net = net
        self.rectifier = nn.ReLU()
        self.register_buffer("bias_k", bias_k.to(torch.float32))

    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.net.features(image)
        activation = self.rectifier(features.requires_grad_())
        logits: Tensor = self.net.classify(activation).mean((2, 3)) + self.bias_k
        return logits


def _method_class(method: str) -> Callable[..., Any]:
    import pytorch_grad_cam
    from pytorch_grad_cam import score_cam

    score_cam.tqdm = SimpleNamespace(tqdm=iter)  # no progress bar in the server's log
    if method != "SCORE_CAM":
        found: Callable[..., Any] = getattr(pytorch_grad_cam, METHODS[method])
        return found

    class HookFreeScoreCAM(pytorch_grad_cam.ScoreCAM):  # type: ignore[misc]
        """Without hooks in its forward passes, which would keep every activation alive."""

        def get_cam_weights(self, *arguments: Any) -> Any:
            self.activations_and_grads.release()
            return super().get_cam_weights(*arguments)

    return HookFreeScoreCAM
