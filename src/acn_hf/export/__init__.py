"""ONNX files and programs of torch.export, checked against the model that they were made of."""
