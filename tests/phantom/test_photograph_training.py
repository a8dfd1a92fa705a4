"""The check for photographs is trained on drawings, and can be trained again."""

from pathlib import Path

import numpy as np
import pytest

from cxr_phantom.__main__ import main
from cxr_server.imaging import photograph

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_a_small_training_writes_a_network_whose_outputs_the_server_repeats(
    tmp_path: Path,
) -> None:
    import torch

    from cxr_phantom.photograph import Network, thumbnails_of

    flags = ("--films", "5", "--epochs", "1", "--workers", "1")
    assert main(["photograph", "--output", str(tmp_path), *flags]) == 0
    file = tmp_path / photograph.WEIGHTS_NAME
    served = photograph.read(file)
    trained = Network()
    with np.load(file) as stored:
        weights = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in stored}
    assert weights.pop("threshold") == pytest.approx(served.threshold)
    trained.load_state_dict(weights)
    thumbnails = thumbnails_of(1)
    with torch.inference_mode():
        expected = trained(torch.from_numpy(thumbnails)).numpy()
    outputs = [photograph.output(each_hw, served) for each_hw in thumbnails]
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)
