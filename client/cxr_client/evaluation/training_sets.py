"""Training sets: which data sets the models of torchxrayvision were trained on."""

_SOURCES = {
    "nih": "NIH ChestX-ray14",
    "padchest": "PadChest",
    "chexpert": "CheXpert",
    "mimic": "MIMIC-CXR",
    "rsna": "the RSNA Pneumonia Detection Challenge",
    "siim": "the SIIM-ACR Pneumothorax challenge",
}
_TRAINED_ON: dict[str, frozenset[str]] = {
    # The name of its file: nih-pc-chex-mimic_ch-google-openi-kaggle; Google's labels are of NIH.
    "densenet121-res224-all": frozenset({"nih", "padchest", "chexpert", "mimic", "rsna"}),
    # The challenge's images were taken from NIH ChestX-ray14.
    "densenet121-res224-rsna": frozenset({"rsna", "nih"}),
    "densenet121-res224-nih": frozenset({"nih"}),
    "densenet121-res224-pc": frozenset({"padchest"}),
    "densenet121-res224-chex": frozenset({"chexpert"}),
    "densenet121-res224-mimic_nb": frozenset({"mimic"}),
    "densenet121-res224-mimic_ch": frozenset({"mimic"}),
}


def overlap(model: str, datasets: tuple[str, ...]) -> str | None:
    """Return a sentence where a model was trained on a data set that it is evaluated on.

    Args:
        model: Its name.
        datasets: Where the images come from, as in `LabelSet.datasets`.
    """
    shared = [each for each in datasets if each in _TRAINED_ON.get(model, ())]
    if not shared:
        return None
    return (
        f"{model} was trained on images of {_SOURCES[shared[0]]}, from which these images come: "
        "some may be training images, and this is no external validation."
    )
