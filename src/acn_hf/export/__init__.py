"""ONNX files and programs of torch.export, checked against the model that they were made of."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
