"""Trained models as files for other runtimes: ONNX, torch.export, folders for the Hub."""
