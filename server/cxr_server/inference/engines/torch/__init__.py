"""The torch engine: CUDA, and the explanation methods that need gradients."""
