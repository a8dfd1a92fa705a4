"""The proof of bulk runs and of the evaluation: `python -m scripts.prove_evaluation`."""
