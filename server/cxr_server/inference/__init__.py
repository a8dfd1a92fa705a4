"""Inference: Radiograph -> ModelInput -> Evidence -> findings. Next: explanation."""
