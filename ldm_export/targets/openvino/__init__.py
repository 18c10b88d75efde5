"""The OpenVINO target: IR files, and the tokenizer that OpenVINO GenAI reads."""
