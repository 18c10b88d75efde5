"""The OpenVINO engine: graphs compiled for this machine, and the work that they are spared. https://docs.openvino.ai"""
