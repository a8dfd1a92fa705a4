"""Saliency: further explanation methods, from pytorch-grad-cam, on the rectified feature map."""

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

METHODS = ("GRAD_CAM_PLUS_PLUS", "LAYER_CAM", "EIGEN_CAM", "SCORE_CAM")


class Saliency:
    """Maps by pytorch-grad-cam, one at a time: its hooks belong to the network.

    The package is imported at the first map, since that takes seconds.
    """

    def __init__(self, densenet: nn.Module, bias_k: Iterable[float], device: str) -> None:
        """Wrap the network.

        Args:
            densenet: torchxrayvision's DenseNet on the CPU; its feature layers are shared.
            bias_k: What is added to the mean evidence of each finding.
            device: The device to work on.
        """
        self.methods = METHODS if find_spec("pytorch_grad_cam") else ()
        bias = torch.tensor(tuple(bias_k))
        self._class_count = len(bias)
        self._net = _LogitNet(EvidenceNet(densenet), bias).to(device)
        self._device = device
        self._lock = threading.Lock()

    def map(self, image_chw: NDArray[np.float32], row: int, method: str) -> NDArray[np.float32]:
        """Return the map [H, W] in [0, 1] of one finding, as pytorch-grad-cam scales it.

        Raises:
            ValueError: There is no such method or finding.
        """
        if method not in self.methods or not 0 <= row < self._class_count:
            raise ValueError("there is no such saliency method or finding")
        with self._lock:
            image = torch.from_numpy(np.ascontiguousarray(image_chw[None])).to(self._device)
            with _method_class(method)(
                model=self._net, target_layers=[self._net.evidence.rectifier]
            ) as cam:
                maps = cam(input_tensor=image, targets=[lambda logits: logits[row]])
            return np.asarray(np.nan_to_num(maps[0]), np.float32)


class _LogitNet(nn.Module):
    """The network up to its logits, with gradients from the rectified map on, not before."""

    def __init__(self, evidence: EvidenceNet, bias_k: Tensor) -> None:
        super().__init__()
        self.evidence = evidence.requires_grad_(False).eval()
        self.register_buffer("bias_k", bias_k.to(torch.float32))

    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.evidence.features(image)
        activation = self.evidence.rectifier(features.requires_grad_())
        logits: Tensor = self.evidence.weigh(activation).mean((2, 3)) + self.bias_k
        return logits


def _method_class(method: str) -> Callable[..., Any]:
    from pytorch_grad_cam import EigenCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM, score_cam

    # It draws a progress bar over the server's log.
    score_cam.tqdm = SimpleNamespace(tqdm=iter)

    class LeanScoreCAM(ScoreCAM):  # type: ignore[misc]
        def get_cam_weights(self, *arguments: Any) -> Any:
            # From here on its hooks would only pile up the activations of every masked image.
            self.activations_and_grads.release()
            return super().get_cam_weights(*arguments)

    classes = (GradCAMPlusPlus, LayerCAM, EigenCAM, LeanScoreCAM)
    found: Callable[..., Any] = dict(zip(METHODS, classes, strict=True))[method]
    return found
