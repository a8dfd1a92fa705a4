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


class Saliency(nn.Module):
    """The network up to its logits, with a ReLU of its own that pytorch-grad-cam hooks into.

    Computes one map at a time because of the hooks. Gradients stop at the ReLU. The network is in
    float32 and may run elsewhere at the same time. The package is imported for the first map,
    because importing it takes seconds. Both methods raise RuntimeError once `close` was called.
    """

    def __init__(self, net: EvidenceNet, bias_k: Iterable[float]) -> None:
        super().__init__()
        self.methods = tuple(METHODS) if find_spec("pytorch_grad_cam") else ()
        self.net, self.rectifier = net, nn.ReLU()
        self._bias_k = torch.tensor(tuple(bias_k), device=net.classify.weight.device)
        self._lock = threading.Lock()  # guards the hooks and the next line
        self._check: Callable[[], None] = lambda: None
        self._closed = False
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits [N, K] of images [N, 1, S, S]. ArithmeticError if one is not finite."""
        self._check_open()
        self._check()  # Score-CAM makes hundreds of passes
        with torch.no_grad():
            features = self.net.features(image)
        activation = self.rectifier(features.requires_grad_())
        logits: Tensor = self.net.classify(activation).mean((2, 3)) + self._bias_k
        if not torch.isfinite(logits).all():  # a map would hide this
            raise ArithmeticError("the network's logits are not finite")
        return logits

    def map(
        self,
        image_chw: NDArray[np.float32],
        row: int,
        method: str,
        check: Callable[[], None] = lambda: None,
    ) -> NDArray[np.float32]:
        """Return a map, scaled to [0, 1] by pytorch-grad-cam: see `SaliencyEngine.saliency`."""
        if method not in self.methods or not 0 <= row < len(self._bias_k):
            raise ValueError("there is no such saliency method or finding")
        image = torch.from_numpy(np.ascontiguousarray(image_chw[None])).to(self._bias_k.device)
        with self._lock:
            self._check_open()
            with _method_class(method)(self, [self.rectifier]) as cam:
                self._check = check
                maps = cam(input_tensor=image, targets=[lambda logits: logits[row]])
        return np.asarray(np.nan_to_num(maps[0]), np.float32)

    def close(self) -> None:
        """End the map in the making at its next forward pass, and release the network."""
        self._closed = True
        with self._lock:
            del self.net

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the engine is closed")


def _method_class(method: str) -> Any:
    import pytorch_grad_cam

    pytorch_grad_cam.score_cam.tqdm = SimpleNamespace(tqdm=iter)  # no progress bar in the log

    class SignedEigenCAM(pytorch_grad_cam.EigenCAM):  # type: ignore[misc]
        """With the sign by which the map is high where activations are.

        That of a singular vector is arbitrary (jacobgil/pytorch-grad-cam#315).
        """

        def get_cam_image(self, *arguments: Any) -> Any:
            projection_nhw = super().get_cam_image(*arguments)
            # As BaseCAM passes them: input, layer, targets, activations, gradients, smoothing.
            active_nhw = arguments[3].sum(axis=1)
            active_nhw -= active_nhw.mean(axis=(1, 2), keepdims=True)
            sign_n11 = np.sign((projection_nhw * active_nhw).sum(axis=(1, 2), keepdims=True))
            return projection_nhw * np.where(sign_n11 < 0, -1, 1)

    class HookFreeScoreCAM(pytorch_grad_cam.ScoreCAM):  # type: ignore[misc]
        """Without hooks in its forward passes, which would keep every activation alive."""

        def get_cam_weights(self, *arguments: Any) -> Any:
            self.activations_and_grads.release()
            return super().get_cam_weights(*arguments)

    own = {"EIGEN_CAM": SignedEigenCAM, "SCORE_CAM": HookFreeScoreCAM}
    return own.get(method) or getattr(pytorch_grad_cam, METHODS[method])
